"""The arguments of a part, held against the annotations of its constructor before anything is built.

Known are int, float, bool, str, `X | None`, Literal, list, tuple and Sequence of these, and `Annotated` with a `Range`.
What has no annotation, or another one, passes as it is.
"""

__all__ = ["checked", "parameters"]

import copy
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pyro_vae.errors import InputError, Range, reason

Part = Callable[..., Any]

_LARGEST = 2**53
_SEQUENCES = (list, tuple, Sequence)


class _NotPossible(Exception):
    """A value is not what an annotation wants."""


def parameters(part: Part) -> Mapping[str, Parameter]:
    """Returns the parameters of a part's constructor.

    Raises:
        InputError: If they cannot be read.
    """
    try:
        return inspect.signature(part).parameters
    except Exception as error:  # a user's class may answer with anything
        name = getattr(part, "__name__", "the part")
        raise InputError(
            f"the arguments of {name} cannot be read ({reason(error)}): write them out in its __init__"
        ) from error


def checked(part: Part, given: Sequence[Any], named: Mapping[str, Any], flags: Mapping[str, str]) -> dict[str, Any]:
    """Checks the arguments that a part is built with.

    Arguments:
        part: The part.
        given: Its positional arguments.
        named: The others.
        flags: What the user has given an argument as, by its name: `--set model.depth`. The others are `--NAME`.

    Returns:
        The named arguments: numbers in the type that is wanted, lists and tables as copies.

    Raises:
        InputError: If one is not of the type or in the range that its annotation says, with what is wanted.
    """
    own = parameters(part)
    scope = _scope(part)
    values = dict(zip(own, given, strict=False)) | dict(named)
    for name, value in values.items():
        if name not in own or own[name].kind is Parameter.VAR_POSITIONAL:
            continue
        default = own[name].default
        try:
            values[name] = _fitted(_annotation(own[name], scope), value, default)
        except _NotPossible:
            wanted = _wanted(_annotation(own[name], scope))
            flag = flags.get(name, f"--{name.replace('_', '-')}")
            usual = "" if default is Parameter.empty else f" (default {_shown(default)})"
            raise InputError(f"{flag} {_shown(value)} is not possible: give {wanted}{usual}") from None
    return {name: values[name] if name not in flags else _apart(values[name]) for name in named}


def _apart(value: Any) -> Any:
    """A copy of what the settings hold: a constructor may change what it is given."""
    return copy.deepcopy(value) if isinstance(value, list | tuple | dict) else value


def _scope(part: Part) -> dict[str, Any]:
    """The names that annotations which are text may use."""
    kinds = part.__mro__ if isinstance(part, type) else ()
    function = inspect.unwrap(next((vars(kind)["__init__"] for kind in kinds if "__init__" in vars(kind)), part))
    module = sys.modules.get(getattr(part, "__module__", ""))
    return {**(vars(module) if module else {}), **getattr(function, "__globals__", {})}


def _annotation(parameter: Parameter, scope: dict[str, Any]) -> Any:
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return eval(parameter.annotation, dict(scope))
    except Exception:  # a name for type checkers only
        return Any


def _fitted(annotation: Any, value: Any, default: Any) -> Any:
    """Returns a value as an annotation wants it; the default tells whether a number may be infinite."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        ranges = [mark for mark in inner[1:] if isinstance(mark, Range)]
        value = _fitted(inner[0], value, default if all(mark.finite for mark in ranges) else math.inf)
        if not all(_all_in(mark, value) for mark in ranges):
            raise _NotPossible
        return value
    if origin in (Union, UnionType):
        return _either(inner, value, default)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            raise _NotPossible
        return value
    if (origin or annotation) in _SEQUENCES:
        return _elements(origin or annotation, inner, value, default)
    fit = _FITS.get(annotation) if isinstance(annotation, type) else None
    return fit(value, default) if fit else value


def _either(members: Sequence[Any], value: Any, default: Any) -> Any:
    """Fits one of several annotations: the one of the value's own type before those that it can be turned into."""
    for member in sorted(members, key=lambda member: type(value) is not member):
        with suppress(_NotPossible):
            return _fitted(member, value, default)
    raise _NotPossible


def _elements(kind: Any, inner: tuple[Any, ...], value: Any, default: Any) -> Any:
    """Fits the elements of a list."""
    if not isinstance(value, list | tuple):
        raise _NotPossible
    each = not inner or kind is not tuple or inner[1:] == (...,)
    wants = ([inner[0]] if inner else [Any]) * len(value) if each else [*inner]
    if len(wants) != len(value):
        raise _NotPossible
    usual = default if isinstance(default, list | tuple) and len(default) == len(value) else [None] * len(value)
    fitted = [_fitted(*element) for element in zip(wants, value, usual, strict=True)]
    return tuple(fitted) if kind is tuple else fitted


def _int(value: Any, default: Any) -> int:
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not whole or abs(value) > _LARGEST:
        raise _NotPossible
    return int(value)


def _float(value: Any, default: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _NotPossible
    try:
        number = float(value)
    except (OverflowError, ValueError):
        raise _NotPossible from None
    usual = isinstance(default, float) and not math.isfinite(default)
    if not math.isfinite(number) and (not usual or math.isnan(number) > math.isnan(default)):
        raise _NotPossible
    return number


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    def fit(value: Any, default: Any) -> Any:
        if not isinstance(value, kind):
            raise _NotPossible
        return value

    return fit


_FITS: dict[Any, Callable[[Any, Any], Any]] = {
    int: _int,
    float: _float,
    bool: _exactly(bool),
    str: _exactly(str),
    NoneType: _exactly(NoneType),
}
_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    NoneType: "nothing",
    None: "nothing",
}


def _wanted(annotation: Any) -> str:
    """Says what an annotation wants."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        ranges = [mark for mark in inner[1:] if isinstance(mark, Range)]
        said = " ".join([_wanted(inner[0]), *map(str, ranges)])
        return said if all(mark.finite for mark in ranges) else said.replace("finite ", "")
    if origin in (Union, UnionType):
        return " or ".join(_wanted(member) for member in inner if member is not NoneType)
    if origin is Literal:
        return " or ".join(_shown(choice) for choice in inner)
    if (origin or annotation) in _SEQUENCES:
        if origin is tuple and Ellipsis not in inner:
            return f"a list of {' and '.join(map(_wanted, inner))}"
        return f"a list, of {_wanted(inner[0])} each" if inner else "a list"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _all_in(allowed: Range, value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else (value,)
    return all(not isinstance(each, Real) or float(each) in allowed for each in values)


def _shown(value: Any) -> str:
    """A value as a configuration file has it, in one short line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of hundreds of digits"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(each) for each in value[:5])}{', ...' if len(value) > 5 else ''}]"
    text = " ".join(str(value).split()) or repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
