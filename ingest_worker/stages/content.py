"""The content of a page, read word by word and run, as pdfminer does it and in a fraction of the time.

pdfminer takes a function for each kind of word and another for each step, and most of the time goes to calling them.
Here one expression tells the common words apart, whole. Whatever is not common (escapes in strings, dictionaries,
pictures in the text, a word that the end of a buffer cuts in two) is left to pdfminer's own code. So are the operators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pdfminer.pdffont import PDFFont, PDFFontError
from pdfminer.pdfinterp import PDFContentParser, PDFPageInterpreter, PDFResourceManager
from pdfminer.pdftypes import PDFObjRef, dict_value, stream_value
from pdfminer.psparser import KWD, LIT, PSEOF, PSKeyword


def _operator(word: bytes) -> PSKeyword | bool:
    return word == b"true" if word in {b"true", b"false"} else KWD(word)


def _name(word: bytes) -> Any:
    try:
        return LIT(word[1:].decode())
    except UnicodeDecodeError:
        return LIT(word[1:])


def _string(word: bytes) -> bytes:
    return word[1:-1]


def _hex(word: bytes) -> bytes:
    return bytes.fromhex(word[1:-1].decode())


def _array(word: bytes) -> list[Any]:
    return [_ITEM_MAKERS[found.lastindex or 0](found[0]) for found in _ITEM.finditer(word)]


_END = rb"(?=[/%\[\]()<>{}\s])"

#: What arrays mostly hold, and what each is made into. No bytes make it slow: what has matched is not tried again.
_ITEMS: dict[bytes, Callable[[bytes], Any]] = {
    rb"[-+]?[0-9]{1,18}+(?=[^0-9.])": int,
    rb"[-+]?[0-9]{0,18}+\.[0-9]{1,99}+(?=[^0-9])": float,
    rb"\([^()\\]*+\)": _string,
    rb"<(?:[0-9a-fA-F]{2})*+>": _hex,
}

#: The common words of a content stream. Each shows its end, so the end of the buffer cuts none of them short. A picture
#: in the text goes from BI to ID.
_WORDS: dict[bytes, Callable[[bytes], Any]] = {
    **_ITEMS,
    rb"(?!BI|ID)[A-Za-z][^#/%\[\]()<>{}\s]*+" + _END + rb"|['\"]": _operator,
    rb"/[^#/%\[\]()<>{}\s]*+" + _END: _name,
    rb"\[(?:\s*+(?:" + b"|".join(_ITEMS) + rb"))*+\s*+\]": _array,
}


def _any_of(patterns: Iterable[bytes]) -> bytes:
    """One pattern with a group for each."""
    return b"|".join(b"(" + pattern + b")" for pattern in patterns)


_WORD, _WORD_MAKERS = re.compile(rb"\s*+(?:" + _any_of(_WORDS) + rb")"), (bytes, *_WORDS.values())
_ITEM, _ITEM_MAKERS = re.compile(_any_of(_ITEMS)), (bytes, *_ITEMS.values())


class Content(PDFContentParser):
    """The operands and operators of a page's streams in order: what pdfminer's ``nextobject`` gives, one by one."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            if not self.results:  # else pdfminer is in the middle of something
                while found := _WORD.match(self.buf, self.charpos):
                    self.charpos = found.end()
                    kind = found.lastindex or 0
                    yield _WORD_MAKERS[kind](found[kind])
            try:
                yield self.nextobject()[1]
            except PSEOF:
                return


class Fonts(dict[object, PDFFont]):
    """The fonts that a page may use, by name, each loaded when it is used: a Chinese one takes as long as ten pages."""

    def __init__(self, manager: PDFResourceManager, named: dict[object, object]) -> None:
        super().__init__()
        self._manager = manager
        self._named = named

    def __missing__(self, name: object) -> PDFFont:
        font = self._named[name]
        try:
            self[name] = self._manager.get_font(font.objid if isinstance(font, PDFObjRef) else None, dict_value(font))
        except KeyError as error:  # which would say that there is no such name
            raise PDFFontError(f"The font {name} can't be loaded.") from error
        return self[name]


class Interpreter(PDFPageInterpreter):
    """Runs the operators of a page. They are pdfminer's own."""

    def init_resources(self, resources: Any) -> None:
        """Prepare what the content names, but for the fonts."""
        named = dict_value(resources)
        super().init_resources({kind: things for kind, things in named.items() if kind != "Font"})
        self.resources = resources
        self.fontmap = Fonts(self.rsrcmgr, dict_value(named.get("Font", {})))

    def execute(self, streams: Sequence[object]) -> None:
        """Run all of the streams; those that run already are left out, or they would for ever."""
        try:
            content = Content(self._enter(streams))
        except PSEOF:
            return
        for thing in content:
            if type(thing) is not PSKeyword:
                self.argstack.append(thing)
            elif operator := _OPERATORS.get(thing):
                run, count = operator
                operands = self.argstack[-count:] if count else []
                if count:
                    del self.argstack[-count:]
                if len(operands) == count:
                    run(self, *operands)

    def _enter(self, streams: Sequence[object]) -> list[Any]:
        entered = []
        self.stream_ids.clear()
        for stream in map(stream_value, streams):
            if stream.objid is not None and stream.objid not in self.parent_stream_ids:
                entered.append(stream)
                self.stream_ids.add(stream.objid)
        return entered


def _operators() -> dict[PSKeyword, tuple[Callable[..., None], int]]:
    """What pdfminer does at each operator, and how many operands that takes."""
    found = {}
    for name in dir(Interpreter):
        if name.startswith("do_"):
            run = getattr(Interpreter, name)
            word = name.removeprefix("do_").replace("_a", "*").replace("_w", '"').replace("_q", "'")
            found[KWD(word.encode())] = run, run.__code__.co_argcount - 1
    return found


_OPERATORS = _operators()
