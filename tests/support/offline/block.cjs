// The same cage for node (NODE_OPTIONS=--require): any connection is recorded in OFFLINE_LOG and refused.
const fs = require("node:fs");
const refuse = (what) => (...args) => {
  fs.appendFileSync(process.env.OFFLINE_LOG, `node ${what} ${JSON.stringify(args[0])}\n`);
  throw new Error("tests run offline: this process tried to reach the network");
};
require("node:net").Socket.prototype.connect = refuse("connect");
require("node:dns").lookup = refuse("lookup");
require("node:dns").promises.lookup = refuse("lookup");
