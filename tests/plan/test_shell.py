"""The commands in a script: what is read of them is what a shell would make of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phasewatch.plan.shell import GAP, commands

BASH = shutil.which("bash")

# Each is a script in which `show` prints its words: the shell itself says what is right.
SCRIPTS = {
    "continued": "show a=1 \\\n  b=2 \\\n\tc=3\n",
    "comments": "# show x=1\nshow a=1 # b=2\nshow a#b '#c' # d\n",
    "quotes": 'show \'a b\' "c  d" e\\ f \'g\'"h"i \'$A\' "\\$A" "\\n" ""\n',
    "variables": 'A=1\nB="$A 2"\nshow a=$A b="$B" c=${A}x "d=${B}"\n',
    "splitting": 'A=\'x=1  y=2 \'\nB=\' p\'\nshow $A z$A"$A" "$A" q$B $B"r"$B\n',
    "empty": 'A=\nshow $A "$A" a$A\n',
    "defaults": "A=\nB=7\nshow ${A:-5} ${A-6} ${B:-8} ${C:=9} $C ${B:+set} ${A:+unset} ${D:-x ${B} y}\n",
    "default in quotes": 'show "${X:-a b}" "${Z:-${X:-e}}"\n',
    "arguments": 'show "$@"\nshow "$*"\nshow $1 ${2} "${9:-none}" x"$@"y\n',
    "arrays": 'A=(a=1 \'b 2\' # comment\n  c=3)\nA+=(d)\nshow "${A[@]}" e\nE=()\nshow f "${E[@]}"\n',
    "appended": "A=x\nA+=' y'\nshow \"$A\" $A\n",
    "arithmetic": 'A=5\nshow $((A * 3 + 1)) $(( $A-7 )) $((-7 / 2)) $((-7 % 3)) "x$((1+1))" $(((A + 1) * (A - 1)))\n',
    "separators": "show a; show b && show c || show d\nshow e & show f\nwait\n(show g)\n{ show h; }\n",
    "redirected": "show a 2>&1 >/dev/null\nshow b >&1 </dev/null\nshow c 1>/dev/null\nshow d &>/dev/null\nshow e <<< text\n",
    "here-documents": "cat > /dev/null <<EOF\nshow x=1\nEOF\ncat >/dev/null <<-'END'\n\tshow y=2\n\tEND\nshow a\n",
    "declared": 'export A=1 B="2 3"\nreadonly C=4\nshow $A "$B" $C\n',
    "environment": "A=1 show a=$A\n",
    "branches": "if true; then A=1; fi\nshow $A\n",
    "carriage returns in a word": "show a\\\nb\n",
    "where the script is": 'D="$(cd "$(dirname "${X[0]}")" && pwd)"\n[ -f "$D/env" ] && source "$D/env"\nshow a\n',
    "dollars": "show a$ $ \"b$\" '$'\n",
}


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize("name", SCRIPTS)
def test_words_are_those_that_a_shell_passes_on(name: str) -> None:
    arguments = ["first", "second one"]
    show = 'show() { printf \'%s\\0\' "$#" "$@" >&3; }\nexec 3>&1\n'
    done = subprocess.run(
        [str(BASH), "-c", show + SCRIPTS[name], "script", *arguments], capture_output=True, check=True, text=True, env={}
    )
    values = done.stdout.split("\0")[:-1]
    expected = []
    while values:
        count = int(values.pop(0))
        expected.append(values[:count])
        del values[:count]
    found = [words[1:] for words in commands(SCRIPTS[name], arguments) if words[0] == "show"]
    if name == "environment":
        expected[0] = ["a=1"]  # bash expands it before it is set; nobody means that
    if name == "separators":
        expected.insert(3, ["d"])  # branches are read as if taken
        assert sorted(found) == sorted(expected)
    else:
        assert found == expected


@pytest.mark.parametrize(
    "value",
    ["$UNSET", "$(cat file)", "`cat file`", "${A##*/}", "$((A ** 2))", "$((1 / 0))", "$7", "$#", "${#A}", "$((B + 1))"],
)
def test_what_only_a_run_can_tell_is_a_gap(value: str) -> None:
    assert commands(f"A=3\nrun a={value} b=2") == [["run", f"a={GAP}", "b=2"]]
    assert commands(f'C="{value}"\nrun a=$C') == [["run", f"a={GAP}"]]


def test_a_command_inside_a_word_does_not_end_it() -> None:
    assert commands("run a=$(f \"x)\" '(' $(g)) b=2\n") == [["run", f"a={GAP}", "b=2"]]
    assert commands("run <(sort x) b=2") == [["run", GAP, "b=2"]]


def test_commands_in_an_argument_are_read() -> None:
    assert commands('A=5\nbash -lc "cd x && run a=$A"')[1:] == [["cd", "x"], ["run", "a=5"]]


def test_nothing_is_run_and_nothing_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(event: str, args: tuple[object, ...]) -> None:
        if event in ("subprocess.Popen", "os.system", "os.exec", "open") and watching:
            raise AssertionError(event)

    watching: list[bool] = []
    sys.addaudithook(forbidden)
    monkeypatch.setenv("FREQ", "5")
    watching.append(True)
    try:
        assert commands("touch x; . ./x; run a=$FREQ $(touch y)") == [["touch", "x"], [".", "./x"], ["run", f"a={GAP}", GAP]]
    finally:
        watching.clear()


@given(st.text(alphabet="a=1 $(){}[]'\"`\\\n;&|<>#@*-:+/%!\0", max_size=60))
@example("${" * 50 + "a" + "}" * 50)
@example("${a:-" * 200)
@example("$((" + "(" * 500)
@example("A=(" * 30)
@example('"$(' * 30)
@example("cat <<E")
def test_any_text_is_read_to_its_end(text: str) -> None:
    for words in commands(text, ["x", "y z"]):
        assert words
        assert all(isinstance(word, str) for word in words)


@pytest.mark.parametrize(
    "script",
    [
        "A=0123456789\n" + "A=$A$A\n" * 60 + "run a=$A",
        "A=(0123456789)\n" + 'A=("${A[@]}" "${A[@]}")\n' * 60 + "run ${A[@]}",
        "A=x\n" + 'A="$A $A"\n' * 60 + "run $A $A $A",
        "A=" + "a" * 90_000 + "\nrun " + "$A" * 1000,
        "run " + "a" * 300_000,
        "run '" + "a" * 300_000,
        'run "' + "a$" * 50_000,
        "${" * 20_000,
        "bash -c 'bash -c \"" * 100,
        "A='bash -c \"$A\" x'\n" * 1000 + 'bash -c "$A"',
    ],
    ids=range(10),
)
def test_a_script_that_grows_without_end_does_not_fill_the_memory(script: str) -> None:
    started = time.perf_counter()
    size = sum(len(word) for words in commands(script) for word in words)
    assert size < 2_000_000
    assert time.perf_counter() - started < 20, "it took long, as it does if every character costs more than the one before"
