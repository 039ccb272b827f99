"""The documents tell the truth: links resolve, commands exist, and template excerpts stand in the templates."""

import importlib.util
import json
import re
import subprocess

import botocore.session
import pytest
from botocore import xform_name

from local.cloud import lifecycle
from local.cloud.place import Place
from stacks import config
from tools import cost, operations
from tools.assembly import ROOT, context

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
EXAM_MAP = ROOT / "docs" / "exam-map.md"

LINK = re.compile(r"\]\(([^)#\s]+)?(#[^)\s]+)?\)")
FIRST = re.compile(r"aws ([a-z-]+) (list-[a-z-]+)\b([^\n)`]*?\[(?:0|-1)\][^\n)`]*)")
FENCE = re.compile(r"```(\w+)([^\n]*)\n(.*?)```", re.DOTALL)


def anchor(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(document):
    return {anchor(line.lstrip("# ")) for line in document.read_text().splitlines() if line.startswith("#")}


def broken_links(document):
    for path, fragment in LINK.findall(FENCE.sub("", document.read_text())):
        if "://" in path:
            continue
        target = (document.parent / path).resolve() if path else document
        if not target.exists():
            yield path
        elif fragment and target.suffix == ".md" and fragment[1:] not in anchors(target):
            yield path + fragment


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_resolves(document):
    assert list(broken_links(document)) == []


@pytest.mark.parametrize(
    "note", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.name
)
def test_a_decision_bears_its_number_and_is_a_few_lines(note):
    number = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", note.name)[1]
    lines = note.read_text().splitlines()
    assert lines[0].startswith(f"# {number}: ")
    assert len(lines) <= 40


def commands(document):
    """Every command line in a shell block, and every `make x` or `python -m x` in backticks."""
    text = document.read_text()
    for language, _, body in FENCE.findall(text):
        if language in {"sh", "bash", "console"}:
            yield from (line.split("#")[0].strip() for line in body.splitlines())
    yield from re.findall(r"`((?:make|python -m) [^`]+)`", FENCE.sub("", text))


def make_targets():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_exists(document):
    targets = make_targets()
    for command in commands(document):
        if target := re.match(r"make (?:[A-Z]+=\S+ )*([a-z-]+)", command):
            assert target[1] in targets, command
        if module := re.search(r"python -m ([a-z_.]+)", command):
            assert module[1] == "venv" or importlib.util.find_spec(module[1]), command


def unknown_aws_commands(text):
    """The CLI's commands that no API has, beside its own above one."""
    session = botocore.session.get_session()
    for service, command in sorted(operations.commands(text) - {("s3", "cp"), ("s3", "ls")}):
        if service not in session.get_available_services():
            yield service, command
            continue
        waiters = session.create_client(service, "us-east-1").waiter_names
        known = [*session.get_service_model(service).operation_names, *waiters]
        if command not in {xform_name(name, "-").replace("_", "-") for name in known}:
            yield service, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_aws_command_exists(document):
    assert list(unknown_aws_commands(document.read_text())) == []


def test_an_aws_command_that_does_not_exist_is_found():
    text = "`aws glue get-tables`, `aws sagemaker wait endpoint-in-service`, `aws glue get-chairs`, `aws glu get-jobs`"
    assert list(unknown_aws_commands(text)) == [("glu", "get-jobs"), ("glue", "get-chairs")]


def first_of_a_list_in_no_order(text):
    """The CLI's lists of which a command takes the first by the API's own order, which it could be asked for."""
    session = botocore.session.get_session()
    for service, command, options in FIRST.findall(text):
        api = session.get_service_model(service)
        (operation,) = (name for name in api.operation_names if xform_name(name, "-") == command)
        if (
            "SortOrder" in api.operation_model(operation).input_shape.members
            and "--sort-order" not in options
        ):
            yield service, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_who_takes_the_first_of_a_list_asks_for_an_order(document):
    assert list(first_of_a_list_in_no_order(document.read_text())) == []


def test_the_first_of_a_list_in_the_api_s_own_order_is_found():
    text = "\n".join(
        f'aws {command} --query "L[0].Arn"'
        for command in (
            "sagemaker list-models",
            "sagemaker list-models --sort-order Descending",
            "glue list-data-quality-results",
        )
    )
    assert list(first_of_a_list_in_no_order(text)) == [("sagemaker", "list-models")]


# A shell's words: what is set (`name=`, `name()`), what is used (`$name`), what is written (`> file`, a copy's last
# word, the file of an answer) and what is read (`file://`, `fileb://`, a copy's first word).
SET = re.compile(r"(?:^|[\s;])(\w+)(?:=|\(\))", re.MULTILINE)
USED = re.compile(r"\$([a-z_]+)")
WRITTEN = re.compile(r"> (\S+)")
READ = re.compile(r"fileb?://([^\s\"]+)|s3 cp (?!s3://)(\S+)")


def scripts(text):
    """The shell blocks, without comments."""
    bodies = (body for language, _, body in FENCE.findall(text) if language == "sh")
    return [re.sub(r"(?m)(^|\s)#.*$", "", body) for body in bodies]


def made_by_nobody(text, before=""):
    """Each file that a command of `text` reads, and each variable, that no earlier line there or in `before` makes."""
    made = set()
    for line in "\n".join(scripts(before)).splitlines():
        made |= {*SET.findall(line), *WRITTEN.findall(line)}
    for line in "\n".join(scripts(text)).splitlines():
        read = {*USED.findall(line), *("".join(found) for found in READ.findall(line))}
        yield from sorted(read - made - set(SET.findall(line)))
        made |= {*SET.findall(line), *WRITTEN.findall(line)}


def test_what_a_command_reads_an_earlier_one_has_made():
    readme, serving, cloud = (
        (ROOT / name).read_text() for name in ("README.md", "docs/serving.md", "docs/embedded-cloud.md")
    )
    assert list(made_by_nobody(readme)) == []
    assert list(made_by_nobody(serving, before=readme)) == []
    assert list(made_by_nobody(cloud, before=readme + serving)) == []


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        ("aws x --body fileb://out/a.csv", ["out/a.csv"]),
        ("aws x --body file://out/a.csv\npython -m tools.record > out/a.csv", ["out/a.csv"]),
        ("python -m tools.record > out/a.csv\naws s3 cp out/a.csv s3://b/a.csv", []),
        ("aws s3 cp out/a.csv s3://b/a.csv\naws s3 cp s3://b/a.csv out/b.csv", ["out/a.csv"]),
        ("aws x --name $name  # not $this", ["name"]),
        ("name=$(aws x)\naws x --name $name", []),
        ("a=$b", ["b"]),
    ],
)
def test_a_file_or_a_variable_that_nothing_makes_is_found(script, missing):
    assert list(made_by_nobody(f"```sh\n{script}\n```")) == missing


def test_the_shadow_of_the_page_on_serving_is_taken_as_it_stands():
    [section] = re.findall(
        r'```json\n("experiment": .*?)```', (ROOT / "docs" / "serving.md").read_text(), re.DOTALL
    )
    changed = context("sandbox")
    changed["stages"]["sandbox"] |= {"options": ["experiment"], **json.loads(f"{{{section}}}")}
    assert config.load(changed).experiment.kind == "SHADOW"


@pytest.mark.parametrize("stage", ["sandbox", "production"])
def test_the_readme_states_what_make_cost_computes(stage, assembly):
    bill = cost.bill(assembly(stage), cost.load_prices())
    idle, serving = bill.a_day(with_model=False), bill.a_day(with_model=True)
    assert f"| `{stage}` | {idle:.2f} $ a day | {serving:.2f} $ a day |" in (ROOT / "README.md").read_text()


def contains(whole, part):
    """Whether every key and value of `part` stands in `whole`; a list's items may stand anywhere in the list."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(item, one) for item in whole) for one in part)
    return whole == part


def found(whole, part):
    """Whether `part` stands anywhere in `whole`."""
    if contains(whole, part):
        return True
    inner = whole.values() if isinstance(whole, dict) else whole if isinstance(whole, list) else ()
    return any(found(item, part) for item in inner)


def rows():
    """(heading, body) of each feature row of the exam map."""
    parts = re.split(r"^### ", EXAM_MAP.read_text(), flags=re.MULTILINE)[1:]
    return [part.split("\n", 1) for part in parts]


@pytest.mark.parametrize(("heading", "body"), rows(), ids=lambda text: text.split(" ")[0])
def test_a_row_of_the_exam_map_has_question_file_excerpt_and_command(heading, body, assembly, complete):
    assert re.match(r"[DMPOR]\d+ ", heading)
    assert "**Question.**" in body
    assert re.search(r"\*\*File\.\*\* .*\]\(\.\./", body), "a link to the file that answers"
    assert re.search(r"\*\*Command\.\*\* .*`", body)
    excerpts = [(name.strip(), text) for language, name, text in FENCE.findall(body) if language == "json"]
    assert excerpts or "**No template:**" in body, (
        f"{heading}: show the part of a template, or say why there is none"
    )
    for (
        name,
        excerpt,
    ) in excerpts:  # a stack's template, or a committed definition, which is a template's text
        path = ROOT / name
        # As the stage is; a stack that it does not list, as if it did.
        made = (assembly if name in assembly("sandbox").templates else complete)("sandbox")
        whole = json.loads(path.read_text()) if path.is_file() else made.template(name).json
        assert found(whole, json.loads(excerpt)), f"{heading}: not in {name}: {excerpt}"


def test_a_template_excerpt_that_is_not_in_the_template_is_found():
    assert contains({"a": [{"b": 1}, {"c": 2}]}, {"a": [{"c": 2}]})
    assert not contains({"a": [{"b": 1}]}, {"a": [{"b": 2}]})
    assert not contains({"a": 1}, {"b": 1})
    assert found({"x": [{"a": 1, "c": 2}]}, {"a": 1})
    assert not found({"x": [{"a": 1}]}, {"a": 2})


@pytest.mark.deep
def test_the_learners_commands_of_the_readme_run_as_they_stand(tmp_path):
    section = (ROOT / "README.md").read_text().split("## Ten minutes")[1].split("\n## ")[0]
    (script,) = (body for language, _, body in FENCE.findall(section) if language == "sh")
    script = re.sub(r"^ +", "", script, flags=re.MULTILINE).replace("out/", f"{tmp_path}/")
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lake" / "model" / "model.json").exists()
    counts = json.loads((tmp_path / "lake" / "report.json").read_text())
    assert counts["rows_in"] == sum(counts[k] for k in ("rows_out", "quarantined", "duplicates", "excluded"))


@pytest.mark.deep
def test_the_commands_of_the_embedded_cloud_run_as_they_stand(tmp_path):
    section = (ROOT / "README.md").read_text().split("## The embedded cloud")[1].split("\n## ")[0]
    (script,) = (body for language, _, body in FENCE.findall(section) if language == "sh")
    with lifecycle.running(Place.on_free_port(tmp_path)) as place:
        here = {"ARGS": f"--folder {place.folder}", "CI": "true"}
        here["CDK_OUTPUT"] = str(tmp_path / "cdk.out")  # other tests and people synthesize at the same time
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=ROOT,
            env=place.environment() | here,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    marked = "\n".join(line for line in done.stdout.splitlines() if line.startswith("!"))
    assert done.returncode == 0, f"{done.stderr}\n{marked}"
    assert not [
        line for line in done.stdout.splitlines() if line.startswith("+")
    ]  # the table has no row too many
    assert "InService" in done.stdout
    assert done.stdout.count('"COMPLETED"') == 2  # the workflow, twice
    assert "ServingUpdateRole: " in done.stdout
