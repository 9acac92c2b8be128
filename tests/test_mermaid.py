"""Charts of graphs, judged by the real Mermaid parser where node is installed."""

from __future__ import annotations

import hashlib
import html
import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dremioframe.orchestration.dag.dag import Dag
from dremioframe.orchestration.machine.states import TaskState
from dremioframe.orchestration.mermaid import render, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Understood = dict[str, Any]
    Parser = Callable[[Sequence[str]], list[Understood]]

CHECKER = Path(__file__).with_name("mermaid")
CHECKER_FILES = ("package.json", "parse.mjs")

WORDS = [
    "graph", "flowchart", "flowchart-elk", "subgraph", "end", "style", "default", "linkStyle", "interpolate",
    "classDef", "class", "click", "href", "call", "direction", "accTitle", "accDescr", "_self", "_blank", "_parent",
    "_top", "LR", "RL", "TB", "BT", "TD", "v", "x", "o", "xo", "ox", "oB", "xB", "a---oB", "endpoint", "end_",
    "styles", "graph_1", "constructor", "__proto__", "prototype", "toString", "valueOf", "hasOwnProperty", "__init__",
    "_", "__", "_0", "_1", "_10", "t0", "n0", "null", "true", "undefined", "NaN", "classes", "clicks", "pending",
    "success", "failed",
]  # fmt: skip
ODD = [
    "two words", " lead", "trail ", "two  spaces", "   ", "", '""', 'a"b', "'q'", "[x]", "(x)", "((x))", "{x}", "{{x}}",
    "[[x]]", "[/x/]", ">x]", "|x|", "`md`", "**bold**", "_em_", "__strong__", "~~gone~~", "1. x", "12) x", "- x", "+ x",
    "* x", "# x", "> x", "a.b", "a-b", "a -> b", "-->", "--- title", "%%", "%% note", "%%{init: {}}%%", ";", "a;b",
    "a\nb", "a\r\nb", "a\tb", "\0", "\x1b[31m", "#quot;", "#35;", "&amp;", "&#35;", "<b>", "</b>", "a<br/>b",
    "<script>alert(1)</script>", '<img src="x" onerror="y">', "javascript:alert(1)", "\\", "\\n", "$$x$$", "fa:fa-home",
    "a:::b", "a@{shape: x}", "e1@-->", "style a:b#c;", "classDef a:#1;", "a & b", "\N{LATIN SMALL LIGATURE FL}°°35¶ß",
    "straße", "é", "e\u0301", "日本語", "\u3000x", "\N{PILE OF POO}", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "שלום", "سلام", "\u202eabc", "\ufeff", "\ud800", "\udc00\ud800", "../../etc/passwd", "C:\\temp", "100%", "a=b",
    "a,b", "q" * 10_000, '"' * 10_000, "<" * 10_000, "1" * 10_000, "\N{PILE OF POO}" * 5_000,
]  # fmt: skip


# -------------------------------------------------------------------------------------------------------- real parser


@pytest.fixture(scope="session")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Parser:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("the real Mermaid parser needs node and npm, which are not installed")
    checker = _installed(npm)

    def parse_all(charts: Sequence[str]) -> list[Understood]:
        done = subprocess.run(
            [node, str(checker / "parse.mjs")],
            input=json.dumps(charts),
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        answers: list[Understood] = json.loads(done.stdout)
        assert len(answers) == len(charts)
        return answers

    return parse_all


def _installed(npm: str) -> Path:
    """The parser with its packages, outside the source tree, made once per version and user."""
    sources = b"".join((CHECKER / name).read_bytes() for name in CHECKER_FILES)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dremioframe-tests"
    checker = cache / f"mermaid-{hashlib.sha256(sources).hexdigest()[:16]}"
    if checker.exists():
        return checker
    cache.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=cache, prefix="making-"))
    try:
        for name in CHECKER_FILES:
            shutil.copy(CHECKER / name, making)
        install = [npm, "install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(install, cwd=making, capture_output=True, text=True, timeout=480)
        if done.returncode:
            pytest.skip(f"the real Mermaid parser could not be installed: {done.stderr.strip()[-300:]}")
        try:
            making.rename(checker)
        except OSError:  # another test run was faster
            assert checker.exists()
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return checker


def _decoded(label: str) -> str:
    """What Mermaid will show: it carries character references through its stages in a spelling of its own."""
    for theirs, ours in (("\ufb02°°", "&#"), ("\ufb02°", "&"), ("¶ß", ";")):
        label = label.replace(theirs, ours)
    return html.unescape(label).replace("\xa0", " ")


def _chain(names: Sequence[str]) -> Dag:
    return Dag(names, [(i - 1,) if i else () for i in range(len(names))])


def _assert_understood(dag: Dag, answer: Understood) -> None:
    """Not only accepted: these nodes with these labels, and these edges."""
    assert "error" not in answer, answer["error"]
    assert answer["type"] == "flowchart-v2"
    assert answer["subgraphs"] == 0
    ids = [
        name if name in answer["nodes"] and not name.startswith("_") else f"_{i}" for i, name in enumerate(dag.names)
    ]
    assert set(answer["nodes"]) == set(ids)
    expected = sorted([ids[up], ids[down]] for down in range(dag.n) for up in dag.upstreams[down])
    assert sorted(answer["edges"]) == expected
    for identity, name in zip(ids, dag.names, strict=True):
        shown = _decoded(answer["nodes"][identity][0])
        if len(name) > 100:
            assert "…" in shown or not name.isprintable()
        elif name and name.isprintable():
            assert shown == name
        else:
            assert shown.isprintable() or "\u200d" in name


@pytest.mark.watchdog(600)
def test_every_odd_name_is_understood(parse: Parser) -> None:
    dags = [_chain(["first", name, "last"]) for name in [*WORDS, *map(str.upper, WORDS), *ODD]]
    dags += [Dag([name], [()]) for name in ODD]
    dags.append(_chain([*WORDS, *ODD]))
    for dag, answer in zip(dags, parse([render(dag) for dag in dags]), strict=True):
        _assert_understood(dag, answer)


@pytest.mark.watchdog(600)
def test_random_names_and_edges_are_understood(parse: Parser) -> None:
    chance = random.Random(20)
    dags = [_random_dag(chance) for _ in range(120)]
    for dag, answer in zip(dags, parse([render(dag) for dag in dags]), strict=True):
        _assert_understood(dag, answer)


def _random_dag(chance: random.Random) -> Dag:
    n = chance.randrange(1, 12)
    names = list(dict.fromkeys(_random_name(chance) for _ in range(n)))
    return Dag(names, [[up for up in range(down) if chance.random() < 0.3] for down in range(len(names))])


def _random_name(chance: random.Random) -> str:
    pieces = (
        lambda: chance.choice("\"'`#;:%&<>[](){}|\\/~*_-=+.,!?@$^ \t\n\0"),
        lambda: chr(chance.randrange(0x80)),
        lambda: chr(chance.randrange(0x110000)),
        lambda: chr(chance.randrange(0x3000)),
        lambda: chance.choice(WORDS),
        lambda: str(chance.randrange(100)),
    )
    return "".join(chance.choice(pieces)() for _ in range(chance.randrange(12)))


@pytest.mark.watchdog(600)
def test_states_become_classes(parse: Parser) -> None:
    names = ["end", "b", "c d", "class", "e", '"']
    dag = Dag(names, [(), (0,), (0,), (), (3,), ()])
    states = list(TaskState)
    (answer,) = parse([render(dag, states)])
    _assert_understood(dag, answer)
    classes = [answer["nodes"].get(name, answer["nodes"].get(f"_{i}"))[1] for i, name in enumerate(names)]
    assert classes == [[state.lower()] for state in TaskState]


@pytest.mark.watchdog(600)
def test_the_parser_is_a_judge(parse: Parser) -> None:
    """Charts that must be refused are: otherwise acceptance means nothing."""
    wrong = ["graph TD\n    end --> a\n", 'graph TD\n    a["x"y"]\n', "graph TD\n    a b --> c\n"]
    assert all("error" in answer for answer in parse(wrong))


# -------------------------------------------------------------------------------------------------------- without node


def test_plain_names_are_their_own_ids() -> None:
    dag = Dag(["a", "b", "alone", "c"], [(), (0,), (), (0, 1)])
    assert render(dag) == "graph TD\n    a --> b\n    a --> c\n    b --> c\n    alone\n"


def test_other_names_get_a_label() -> None:
    assert render(_chain(["end", "load (daily)"])) == (
        'graph TD\n    _0["end"]\n    _1["load (daily)"]\n    _0 --> _1\n'
    )


def test_empty_graph() -> None:
    assert render(Dag([], [])) == "graph TD\n"


def test_each_state_has_a_colour_and_only_used_ones_are_defined() -> None:
    chart = render(_chain(["a", "b", "c"]), [TaskState.SUCCESS, TaskState.FAILED, TaskState.SUCCESS])
    assert "class a,c success" in chart
    assert chart.count("classDef") == 2
    everything = render(_chain(list("abcdef")), list(TaskState))
    assert everything.count("classDef") == len(TaskState)


def test_save(tmp_path: Path) -> None:
    chart = render(_chain(["a", "straße ; x"]))
    assert save(chart, tmp_path / "chart.mermaid") == save(chart, None) == chart
    assert (tmp_path / "chart.mermaid").read_bytes() == chart.encode()


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name)[:30])
def test_a_chart_can_be_saved_and_keeps_its_lines(name: str) -> None:
    chart = render(Dag([name], [()]))
    assert chart.encode("utf-8").decode("utf-8") == chart
    assert len(chart.splitlines()) == 2
    assert len(chart) < 2_000
