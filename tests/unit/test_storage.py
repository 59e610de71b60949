"""Files below any fsspec URL."""

from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shared.storage import PIECE_BYTES, Storage, chunks_path, pages_path, source_path, text_path


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path) -> Storage:
    MemoryFileSystem.store.clear()
    return Storage(str(tmp_path / "storage") if request.param == "local" else "memory://bucket/ingest")


def content(storage: Storage, path: str) -> bytes:
    with storage.reading(path) as file:
        return file.read()


def test_what_is_written_is_what_is_read(storage):
    """Bytes come back as they went in."""
    with storage.writing("d/source") as file:
        file.write(b"one ")
        file.write(b"two")
    assert content(storage, "d/source") == b"one two"
    with storage.as_local_file("d/source", lambda: None) as path:
        assert path.read_bytes() == b"one two"


def test_who_fetches_a_file_gives_signs_of_life_and_can_be_stopped():
    """A slow store may take minutes: no lease must end meanwhile, and no cancelled document wait for it."""
    MemoryFileSystem.store.clear()
    storage = Storage("memory://bucket/ingest")
    with storage.writing("d/source") as file:
        file.write(bytes(3 * PIECE_BYTES))
    signs: list[int] = []
    with storage.as_local_file("d/source", lambda: signs.append(1)) as path:
        assert (path.stat().st_size, len(signs)) == (3 * PIECE_BYTES, 3)

    def stop():
        raise KeyError

    with pytest.raises(KeyError), storage.as_local_file("d/source", stop):
        pytest.fail("It was fetched to the end.")


def test_a_file_that_was_not_finished_is_not_there(storage):
    """When the writer fails, nobody ever sees a part, and an earlier file stays."""
    with pytest.raises(KeyError), storage.writing("d/source") as file:
        file.write(b"half")
        raise KeyError
    with pytest.raises(FileNotFoundError):
        content(storage, "d/source")


def test_two_writers_of_one_path_do_not_disturb_each_other(tmp_path):
    """The one that fails takes nothing of the other's with it; what is read is whole."""
    storage = Storage(str(tmp_path))
    with pytest.raises(KeyError), storage.writing("d/pages") as late:
        late.write(b"la")
        with storage.writing("d/pages") as file:
            file.write(b"whole")
        raise KeyError
    assert content(storage, "d/pages") == b"whole"
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["pages"]


def test_a_folder_tells_the_names_in_it(storage):
    """None when it is not there; folders in it have names, too."""
    assert storage.names("d") == set()
    for path in (source_path("d"), "d/pages/1.jsonl", "e/source"):
        with storage.writing(path) as file:
            file.write(b"x")
    assert storage.names("d") == {"source", "pages"}
    assert storage.names("d/pages") == {"1.jsonl"}


def test_removing_a_document_removes_everything_of_it_and_nothing_else(storage):
    """One call; and once more does no harm."""
    for path in (source_path("d"), pages_path("d", 1, "1.2"), text_path("d"), chunks_path("d"), source_path("e")):
        with storage.writing(path) as file:
            file.write(b"x")
    storage.remove("d")
    storage.remove("d")
    with pytest.raises(FileNotFoundError):
        content(storage, text_path("d"))
    assert content(storage, source_path("e")) == b"x"
