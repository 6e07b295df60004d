"""The commands in a shell script, found by reading it. Nothing is run, and nothing outside of the script is looked at.

What only a run can tell (the output of a command, a variable that the script does not set) is a gap in its word. Branches
are read as if all of them were taken, loops as if once.
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GAP = "\0"  # in a word, where something is not known

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?)", re.ASCII)
_PARAMETER = re.compile(r"(\w+|[@*#?$!-])(\[[@*]\])?(?:(:?[-=+?])(.*))?", re.ASCII | re.DOTALL)
_HERE_DOCUMENT = re.compile(r"<(-?)[ \t]*(\\?[\w.-]+|'[^'\n]*'|\"[^\"\n]*\")")
_RUN, _QUOTED_RUN = re.compile(r"[\w.,:/@%^~-]*", re.ASCII), re.compile(r'[^"\\$`]*')
_QUOTED = {"'": re.compile(r"[^']*'?"), '"': re.compile(r'(?:[^"\\]|\\.)*"?', re.DOTALL)}
# After these a command begins anew; what follows may be an assignment.
_BEGINNINGS = frozenset(["{", "!", "if", "then", "elif", "else", "while", "until", "do", "time", "exec", "env", "nohup"])
_DECLARATIONS = frozenset(["export", "declare", "local", "readonly", "typeset"])
_LONGEST = 100_000  # characters of a word; a script that doubles a variable forty times must not fill the memory
_MOST_FIELDS = 10_000
_DEEPEST = 20  # expansions inside each other
_MOST_DIGITS = 18
_MINUS_C = re.compile(r"-[a-z]*c", re.ASCII)

Values = list[str]


def commands(script: str, arguments: Sequence[str] = ()) -> list[list[str]]:
    """Return the words of each command of a script, in order, with what the script itself says of its variables.

    Args:
        script: its text.
        arguments: what it is called with, its ``"$@"``.
    """
    found: list[list[str]] = []
    _read(script, {"@": list(arguments)}, found, 0)
    return found


def _read(script: str, variables: dict[str, Values], found: list[list[str]], depth: int) -> None:
    for words in _Reader(script, variables, depth).commands():
        found.append(words)
        for flag, text in pairwise(words):
            if _MINUS_C.fullmatch(flag) and any(char.isspace() for char in text) and depth < _DEEPEST:  # bash -c "..."
                _read(text, variables, found, depth + 1)


class _Reader:
    def __init__(self, text: str, variables: dict[str, Values], depth: int) -> None:
        self.text = text
        self.at = 0
        self.variables = variables
        self.depth = depth
        self.fields: Values | None = None  # of the word that is being read; None between words
        self.plain = True  # whether that word has been letters alone, so that it may be the name of a variable
        self.assigned: str | None = None  # the variable whose value is being read
        self.adds = False  # to what the variable has
        self.words: list[str] = []
        self.declares = False
        self.redirects = False  # whether the next word is where output goes
        self.ends: list[tuple[str, bool]] = []  # of here-documents that begin in this line; whether tabs stand before

    def commands(self) -> Iterator[list[str]]:
        text = self.text
        while self.at < len(text):
            char = text[self.at]
            self.at += 1
            if char == "\n":
                yield from self.end_command()
                self.skip_here_documents()
            elif char == "&" and text[self.at : self.at + 1] == ">":
                self.end_word()
            elif char in ";&|()":
                if char == "(" and self.assigned is not None and self.fields == [""]:
                    self.read_array()
                else:
                    yield from self.end_command()
            elif char in " \t\r":
                self.end_word()
            elif char == "#" and self.fields is None:
                self.at = self.find("\n")
            elif char in "<>":
                self.redirect(char)
            else:
                self.read_part(char)
        yield from self.end_command()

    # Words.

    def read_part(self, char: str) -> None:
        """Read one part of a word, which begins with this character."""
        if char == "=" and self.plain and self.fields and self.may_assign():
            match = _ASSIGNED.fullmatch(self.fields[0])
            if match:
                self.assigned, self.adds = match[1], bool(match[2])
                self.fields = [""]
                return
        if char == "\\":
            if self.text[self.at : self.at + 1] != "\n":
                self.add(self.text[self.at : self.at + 1])
                self.plain = False
            self.at += 1
        elif char == "'":
            end = self.find("'")
            self.add(self.text[self.at : end])
            self.at, self.plain = end + 1, False
        elif char == '"':
            self.plain = False
            start, begins = self.at, self.fields is None
            self.add("")
            self.read_quoted()
            if begins and self.fields == [""] and "@" in self.text[start : self.at]:
                self.fields = None  # "$@" of no arguments is no word
        elif char in "$`":
            self.plain = False
            self.expand(char, is_quoted=False)
        else:
            run = _RUN.match(self.text, self.at)
            assert run is not None
            self.add(char + run[0])
            self.at = run.end()

    def read_quoted(self) -> None:
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == '"':
                return
            if char == "\\" and self.text[self.at : self.at + 1] in ("$", "`", '"', "\\", "\n"):
                self.add(self.text[self.at].replace("\n", ""))
                self.at += 1
            elif char in "$`":
                self.expand(char, is_quoted=True)
            else:
                run = _QUOTED_RUN.match(self.text, self.at)
                assert run is not None
                self.add(char + run[0])
                self.at = run.end()

    def expand(self, char: str, *, is_quoted: bool) -> None:
        values = self.value_of_expansion() if char == "$" else self.skip_command("`")
        if is_quoted or self.assigned is not None:
            for number, value in enumerate(values):
                self.add(value, anew=number > 0)
            return
        # Without quotes, white space in a value ends a word.
        for number, value in enumerate(values):
            parts = value.split()
            if number > 0 or value[:1].isspace():
                self.break_word()
            for place, part in enumerate(parts):
                self.add(part, anew=place > 0)
            if parts and value[-1:].isspace():
                self.break_word()

    def value_of_expansion(self) -> Values:
        """Return what stands for what follows a dollar sign."""
        text = self.text
        if text.startswith("((", self.at):
            start = self.at
            self.skip_command(")")
            return [_calculated(text[start + 1 : self.at - 1], self.variables)]
        if text.startswith("(", self.at):
            return self.skip_command(")")
        if text.startswith("{", self.at):
            end = _closing_brace(text, self.at)
            inside, self.at = text[self.at + 1 : end], end + 1
            return self.value_of_parameter(inside)
        match = _NAME.match(text, self.at)
        name = match[0] if match else text[self.at : self.at + 1]
        if match is None and not (name.isdigit() or name in tuple("@*#?$!-")):
            return ["$"]  # it stands for itself
        self.at += len(name)
        return self.variable(name)

    def value_of_parameter(self, inside: str) -> Values:
        match = _PARAMETER.fullmatch(inside)
        if match is None:
            return [GAP]
        name, _, operator, word = match.groups()
        value = self.variable(name)
        is_set = value != [GAP]
        if operator is None:
            return value
        if ":" in operator and "".join(value) == "":
            is_set = False
        if "?" in operator:
            return value
        if "+" in operator:
            return self.inner(word) if is_set else []
        if is_set:
            return value
        default = self.inner(word)
        if "=" in operator:
            self.variables[name] = default
        return default

    def inner(self, word: str) -> Values:
        """Return the words that stand in another expansion."""
        if self.depth >= _DEEPEST:
            return [GAP]
        reader = _Reader(word, self.variables, self.depth + 1)
        reader.assigned = ""  # so that it stays one word
        while reader.at < len(word):
            reader.at += 1
            reader.read_part(word[reader.at - 1])
        return ["".join(reader.fields or [])]

    def variable(self, name: str) -> Values:
        if name == "*":
            return [" ".join(self.variables["@"])]
        if name.isdigit() and name != "0":
            given = self.variables["@"]
            return [given[int(name) - 1]] if len(name) < 4 and int(name) <= len(given) else [GAP]
        return self.variables.get(name, [GAP])

    def skip_command(self, end: str) -> Values:
        """Pass over a command whose output is not known."""
        depth = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == "\\":
                self.at += 1
            elif char in "'\"" and end == ")":
                self.at = _QUOTED[char].match(self.text, self.at).end()  # type: ignore[union-attr]  # it may be empty
            elif char == "(" and end == ")":
                depth += 1
            elif char == end:
                depth -= 1
                if depth <= 0:
                    break
        return [GAP]

    def add(self, part: str, *, anew: bool = False) -> None:
        if self.fields is None:
            self.fields = [""]
        if anew and len(self.fields) < _MOST_FIELDS:
            self.fields.append("")
        joined = self.fields[-1] + part
        self.fields[-1] = joined if len(joined) <= _LONGEST else GAP

    def break_word(self) -> None:
        if self.fields is not None and self.fields[-1]:
            self.add("", anew=True)

    def end_word(self) -> None:
        fields, assigned = self.fields, self.assigned
        self.fields, self.assigned, self.plain = None, None, True
        if fields is None:
            return
        if self.redirects:
            self.redirects = False
        elif assigned is not None:
            value = " ".join(fields)
            self.assign(assigned, ["".join(self.variables.get(assigned, [])) + value] if self.adds else [value])
        else:
            if not self.words and (fields[0] in _BEGINNINGS or fields[0] in _DECLARATIONS):
                self.declares = fields[0] in _DECLARATIONS
                return
            self.words += [field for field in fields if field or len(fields) == 1]

    def assign(self, name: str, values: Values) -> None:
        self.variables[name] = values if sum(map(len, values)) <= _LONGEST else [GAP]

    def end_command(self) -> Iterator[list[str]]:
        self.end_word()
        if self.words:
            yield self.words
        self.words, self.declares, self.redirects = [], False, False

    def may_assign(self) -> bool:
        return self.assigned is None and not self.redirects and (not self.words or self.declares)

    def read_array(self) -> None:
        """Read ``NAME=(word word)``."""
        name, adds = self.assigned or "", self.adds
        reader = _Reader(self.text, self.variables, self.depth + 1)
        reader.at = self.at
        reader.words = [name]  # so that its words are no assignments
        while reader.at < len(self.text):
            char = self.text[reader.at]
            reader.at += 1
            if char == ")":
                break
            if char.isspace():
                reader.end_word()
            elif char == "#" and reader.fields is None:
                reader.at = reader.find("\n")
            else:
                reader.read_part(char)
        reader.end_word()
        before = self.variables.get(name, []) if adds else []
        self.assign(name, [*before, *reader.words[1:]][:_MOST_FIELDS])
        self.at = reader.at
        self.fields, self.assigned, self.plain = None, None, True

    # Redirections.

    def redirect(self, char: str) -> None:
        """Pass over what is read from and written to."""
        if self.fields is not None and self.plain and "".join(self.fields).isdigit():
            self.fields = None  # 2>&1
        self.end_word()
        text = self.text
        if text.startswith("(", self.at):
            self.add(self.skip_command(")")[0])
            return
        if char == "<" and text.startswith("<", self.at) and not text.startswith("<<", self.at):
            match = _HERE_DOCUMENT.match(text, self.at)
            if match:
                self.ends.append((match[2].strip("\\'\""), bool(match[1])))
                self.at = match.end()
                return
        while self.at < len(text) and text[self.at] in "<>&|":
            self.at += 1
        self.redirects = True

    def skip_here_documents(self) -> None:
        for end, has_tabs in self.ends:
            while self.at < len(self.text):
                after = self.find("\n")
                line = self.text[self.at : after]
                self.at = after + 1
                if (line.lstrip("\t") if has_tabs else line).rstrip("\r") == end:
                    break
        self.ends.clear()

    def find(self, text: str) -> int:
        """Return where a text comes next; the end of the script if it does not."""
        at = self.text.find(text, self.at)
        return len(self.text) if at < 0 else at


def _closing_brace(text: str, at: int) -> int:
    """Return where the brace ends that opens here."""
    depth = 0
    for place in range(at, len(text)):
        if text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if not depth:
                return place
    return len(text)


def _calculated(expression: str, variables: dict[str, Values]) -> str:
    """Return the value of ``$((...))`` where it is plain arithmetic, else a gap."""

    def value_of(node: ast.AST) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            value = node.value
        elif isinstance(node, ast.Name):
            value = int("".join(variables.get(node.id, [GAP])))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = -value_of(node.operand)
        elif isinstance(node, ast.BinOp):
            value = _operation(node.op, value_of(node.left), value_of(node.right))
        else:
            raise ValueError
        if abs(value) >= 10**_MOST_DIGITS:
            raise ValueError
        return value

    try:
        return str(value_of(ast.parse(expression.replace("$", "").strip(), mode="eval").body))
    except (ValueError, SyntaxError, RecursionError, MemoryError, ZeroDivisionError):
        return GAP


def _operation(operator: ast.operator, left: int, right: int) -> int:
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    if isinstance(operator, ast.Mult):
        return left * right
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)  # towards zero, as shells do
    if isinstance(operator, ast.Div):
        return quotient
    if isinstance(operator, ast.Mod):
        return left - right * quotient
    raise ValueError
