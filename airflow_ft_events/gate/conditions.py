"""The gate's conditions: a small grammar over a job's metrics. Never eval."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from airflow_ft_events.errors import ConditionError
from airflow_ft_events.events import one_line
from airflow_ft_events.parameters import is_template

LONGEST = 500
"""The maximum number of characters in a condition."""
MOST_OPERATIONS = 40
"""Operators, functions and parentheses of a condition; this also limits its depth."""
MOST_CONDITIONS = 100

_TOKEN = re.compile(
    r"""
      (?P<number> (?: [0-9]+ (?: \.[0-9]* )? | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? )
    | (?P<name>   [A-Za-z_][A-Za-z0-9_]* (?: \.[A-Za-z0-9_]+ )* )
    | (?P<quoted> `[^`]*` )
    | (?P<sign>   <= | >= | == | != | [<>+\-*/()] )
    """,
    re.VERBOSE,
)
_BLANKS = " \t\r\n"
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_RANKS = {"+": 1, "-": 1, "*": 2, "/": 2}
FUNCTIONS = ("last", "min", "max", "mean")
_A_TERM = f"a number, a metric's name, {', '.join(f'{name}(…)' for name in FUNCTIONS)}, '-' or '('"
_ONE_COMPARISON = "A condition compares two things: write another condition for a third"
_NO_WORDS = "All conditions of a list must hold: write another one instead of joining two"


# the parts of a condition


@dataclass(frozen=True, slots=True)
class Number:
    """A number, never negative: that is a :class:`Negative` of one."""

    value: float

    def __str__(self) -> str:
        return shown(self.value)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's last, lowest, highest or mean value."""

    name: str
    function: str = "last"

    def __str__(self) -> str:
        name = self.name if _PLAIN_NAME.fullmatch(self.name) else f"`{self.name}`"
        return name if self.function == "last" else f"{self.function}({name})"


@dataclass(frozen=True, slots=True)
class Negative:
    """A term with its sign changed."""

    of: Term

    def __str__(self) -> str:
        return f"-({self.of})" if isinstance(self.of, Arithmetic) else f"-{self.of}"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Two terms joined by an arithmetic operator."""

    sign: str
    left: Term
    right: Term

    def __str__(self) -> str:
        rank = _RANKS[self.sign]
        left, right = str(self.left), str(self.right)
        if isinstance(self.left, Arithmetic) and _RANKS[self.left.sign] < rank:
            left = f"({left})"
        if isinstance(self.right, Arithmetic) and _RANKS[self.right.sign] <= rank:
            right = f"({right})"
        return f"{left} {self.sign} {right}"


Term = Number | Metric | Negative | Arithmetic


@dataclass(frozen=True, slots=True)
class Condition:
    """
    A comparison of two terms. ``str`` writes it so that it parses as the same again.

    :param text: the condition as its author wrote it.
    """

    left: Term
    sign: str
    right: Term
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that it needs from the log, from left to right."""
        return [*metrics_in(self.left), *metrics_in(self.right)]


def shown(value: float) -> str:
    """
    Format a number for people, exactly.

    :param value: the number.
    :returns: its text.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return repr(float(value)).removesuffix(".0")


def metrics_in(term: Term) -> Iterator[Metric]:
    """
    Iterate over the metrics in a term, from left to right.

    :param term: the term.
    :returns: the metrics.
    """
    if isinstance(term, Metric):
        yield term
    elif isinstance(term, Negative):
        yield from metrics_in(term.of)
    elif isinstance(term, Arithmetic):
        yield from metrics_in(term.left)
        yield from metrics_in(term.right)


# parsing


def parse(text: object) -> Condition:
    """
    Parse a condition.

    :param text: such as ``full_valid_loss <= 1.2`` or ``min(valid_loss) < 1.1 * train_loss``.
    :returns: the condition.
    :raises ConditionError: if it cannot be parsed, with the position and what was expected there.
    """
    if not isinstance(text, str):
        raise ConditionError(
            f"A condition is {one_line(repr(text), limit=80)}; it must be text such as "
            "'full_valid_loss <= 1.2'."
        )
    if len(text) > LONGEST:
        raise ConditionError(
            f"Condition {one_line(text, limit=60)!r} has {len(text):,} characters; the maximum is {LONGEST}.",
            position=LONGEST + 1,
        )
    return _Parser(text).condition()


def parse_all(conditions: object) -> list[Condition]:
    """
    Parse a list of conditions.

    :param conditions: 1 to 100 texts.
    :returns: the conditions, in the same order.
    :raises ConditionError: if one cannot be parsed, or if this is not a list, or an empty or too long one.
    """
    return [parse(text) for text in _listed(conditions)]


def check_conditions_early(conditions: object) -> None:
    """
    Check conditions when the Dag is parsed, as far as they are known then.

    :param conditions: a list of texts, or an XCom argument; templates and XCom arguments are checked when the
        task runs.
    :raises ConditionError: as :func:`parse_all`.
    """
    if is_template(conditions):
        return
    for text in _listed(conditions):
        if not is_template(text):
            parse(text)


def _listed(conditions: object) -> Sequence[object]:
    if isinstance(conditions, str | bytes) or not isinstance(conditions, Sequence):
        raise ConditionError(
            f"conditions is {one_line(repr(conditions), limit=80)}; it must be a list of texts such as "
            "['full_valid_loss <= 1.2']. A template renders to a list only in a Dag with "
            "render_template_as_native_obj=True."
        )
    if not conditions:
        raise ConditionError(
            "conditions is empty: such a gate would let every model of a successful job through, as "
            "FineTuningEventsSensor alone does. Give at least one, such as 'full_valid_loss <= 1.2'."
        )
    if len(conditions) > MOST_CONDITIONS:
        raise ConditionError(f"There are {len(conditions):,} conditions; the maximum is {MOST_CONDITIONS}.")
    return conditions


class _Parser:
    """Reads one condition by recursive descent, from token to token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._kind = ""
        self._start = self._end = 0
        self._operations = 0
        self._next()

    def _next(self) -> str:
        """Go to the next token; return the one before it."""
        passed = self._word
        self._start = self._end
        while self._start < len(self._text) and self._text[self._start] in _BLANKS:
            self._start += 1
        found = _TOKEN.match(self._text, self._start)
        if found is None:
            self._kind = "end" if self._start == len(self._text) else "unknown"
            self._end = min(self._start + 1, len(self._text))
        else:
            self._kind, self._end = str(found.lastgroup), found.end()
        return passed

    @property
    def _word(self) -> str:
        return self._text[self._start : self._end]

    def condition(self) -> Condition:
        left = self._sum()
        if self._word not in COMPARISONS:
            self._fail("a comparison (< <= > >= == !=) or one of + - * /")
        sign = self._next()
        right = self._sum()
        if self._kind != "end":
            self._fail("the end or one of + - * /")
        read = Condition(left, sign, right, text=self._text.strip())
        if not read.metrics:
            self._start = 0
            self._fail("a metric's name on at least one side", found="numbers only")
        return read

    def _sum(self) -> Term:
        term = self._product()
        while self._word in ("+", "-"):
            self._count()
            sign = self._next()
            term = Arithmetic(sign, term, self._product())
        return term

    def _product(self) -> Term:
        term = self._factor()
        while self._word in ("*", "/"):
            self._count()
            sign = self._next()
            term = Arithmetic(sign, term, self._factor())
        return term

    def _factor(self) -> Term:
        if self._word == "-":
            self._count()
            self._next()
            return Negative(self._factor())
        if self._word == "(":
            self._count()
            self._next()
            inner = self._sum()
            self._close("')' or one of + - * /")
            return inner
        if self._kind == "number":
            return self._number()
        if self._kind == "quoted":
            return Metric(self._name())
        if self._kind != "name":
            self._fail(_A_TERM)
        after = self._text[self._end :].lstrip(_BLANKS)
        return self._function() if after.startswith("(") else Metric(self._name())

    def _number(self) -> Number:
        value = float(self._word)
        if math.isinf(value):
            self._fail("a number below 1.8e308")
        self._next()
        return Number(value)

    def _function(self) -> Metric:
        if self._word not in FUNCTIONS:
            self._fail(f"one of {', '.join(FUNCTIONS)} before '('")
        self._count()
        function = self._next()
        self._next()
        if self._kind not in ("name", "quoted"):
            self._fail("a metric's name")
        name = self._name()
        self._close("')'")
        return Metric(name, function)

    def _name(self) -> str:
        if self._kind == "name":
            return self._next()
        name = self._word[1:-1]
        if not name or one_line(name, limit=LONGEST) != name:
            self._fail("a metric's name between the backquotes")
        self._next()
        return name

    def _close(self, expected: str) -> None:
        if self._word != ")":
            self._fail(expected)
        self._next()

    def _count(self) -> None:
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            self._fail(f"at most {MOST_OPERATIONS} operators, functions and parentheses")

    def _fail(self, expected: str, *, found: str | None = None) -> NoReturn:
        word = self._word
        if found is None:
            found = "the end" if self._kind == "end" else repr(one_line(word, limit=60) or word)
        hint, position = "", self._start + 1
        if word in COMPARISONS:
            hint = f" {_ONE_COMPARISON}." if "the end" in expected else ""
        elif word == "=":
            following = self._text[position : position + 1]
            hint = f" Write {following}=." if following in ("<", ">") else " 'Is equal to' is written ==."
        elif word.lower() in ("and", "or", "not"):
            hint = f" {_NO_WORDS}."
        elif word == "`":
            hint = " The closing backquote is missing."
        line = "".join(character if character.isprintable() else " " for character in self._text)
        raise ConditionError(
            f"Condition {one_line(self._text, limit=LONGEST)!r} cannot be read at position {position}: "
            f"expected {expected}, found {found}.{hint}\n    {line}\n    {' ' * self._start}^",
            position=position,
        )
