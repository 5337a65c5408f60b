"""Names → data files with their formats: paths, folders, globs and hub data sets.

A format comes from a file's name or first bytes; `readers.py` turns a file into records.
"""

import codecs
import difflib
import fnmatch
import glob
import gzip
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from textwright.errors import CorpusError
from textwright.files import from_home, hash_file, holds_run
from textwright.hub import asking_hub
from textwright.wording import counted, meant

FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
# A hub data set often holds the same records in several formats; the best typed one is read.
_HUB_PREFERENCE = ("parquet", "jsonl", "csv", "tsv", "json", "text")
_HUB_DESCRIPTIONS = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}
_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(/.+)?")
_BUFFER = 1 << 18
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)  # raised where a gzip file is read
_PARQUET, _GZIP = b"PAR1", b"\x1f\x8b"  # what such files begin with
# The first line of JSON: a song may begin with [Verse], a protocol with [12:03].
_OBJECT = re.compile(r'\{\s*(["}]|$)')
_LIST = re.compile(r'\[\s*(["{\[]|\]?\s*$|-?\d+(\.\d+)?([eE][+-]?\d+)?\s*(,|\]?\s*$))')
_READABLE = (_PARQUET, _GZIP, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class SourceFile:
    """One data file. `format` is a key of the readers; `bytes` and `sha256` are those on disk.

    `state` is that of the file when it was hashed: see `state_of`.
    """

    path: Path
    format: str
    sha256: str
    bytes: int
    state: tuple[int, int, int]


def find_files(
    sources: Iterable[str | Path], format: str = "auto", encoding: str = "utf-8"
) -> list[SourceFile]:
    """The data files behind paths, folders, globs and hub names, in the order named.

    A folder gives its files in order of path. Raises CorpusError where a name matches nothing
    or a file cannot be read.
    """
    files = []
    for source in sources:
        try:
            paths = _expand(str(source), format)
        except OSError as error:  # a name that is too long
            raise unreadable(Path(source), error) from error
        for path in paths:
            try:
                state = state_of(path)
                sha256 = hash_file(path)
                kind = detect_format(path, encoding) if format == "auto" else format
                # A hub's data set is made of links, whose targets are named by their hashes.
                full = path.parent.resolve() / path.name
                file = SourceFile(full, kind, sha256, state[1], state)
                refuse_changed(file)
                files.append(file)
            except OSError as error:
                raise unreadable(path, error) from error
    if not files:
        raise CorpusError("No corpus was named: give a file, a folder or a hub data set.")
    return files


def unreadable(path: Path, error: Exception) -> CorpusError:
    """The error for a file that the system does not let us read."""
    reason = getattr(error, "strerror", None) or error
    return CorpusError(f"{path} cannot be read ({reason}): check the file and its permissions.")


def state_of(path: Path) -> tuple[int, int, int]:
    """(time of the last change in ns, bytes, inode): these change with a file's content."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def refuse_changed(file: SourceFile) -> None:
    """Raise CorpusError if a file's content is not the one that was hashed.

    It is hashed again if its state differs: a touch or a copy changes the state alone. A change
    that keeps the state, within one tick of the file system's clock, is not noticed.
    """
    try:
        changed = state_of(file.path) != file.state and hash_file(file.path) != file.sha256
    except OSError as error:
        raise unreadable(file.path, error) from error
    if changed:
        raise CorpusError(f"{file.path} changed while it was read: start again.")


def leads_to_files(source: str | Path) -> bool:
    """True if a name matches files or a folder on this machine, so that it is no hub data set."""
    path = from_home(source)
    return path.exists() or any(glob.iglob(str(path), recursive=True))


def detect_format(path: Path, encoding: str = "utf-8") -> str:
    """The format of a file: by its name (`.gz` looked through), else by its first bytes."""
    named = _named_format(path.name)
    if named:
        return named
    try:
        with open_binary(path) as stream:
            head = stream.read(1 << 16)
    except DAMAGED:
        return "text"  # Its reader reports it.
    if head.startswith(_PARQUET):
        return "parquet"
    lines = head.decode(encoding, "replace").removeprefix("\ufeff").lstrip().splitlines()
    if lines and _OBJECT.match(lines[0]):
        return "jsonl" if lines[0].rstrip().endswith("}") else "json"
    if lines and _LIST.match(lines[0]):
        rows = [line for line in lines[:2] if line.startswith("[") and line.rstrip().endswith("]")]
        return "jsonl" if len(rows) == 2 else "json"
    return "text"


def open_binary(path: Path, on_read: Callable[[int], None] | None = None) -> IO[bytes]:
    """The bytes of a file, decompressed where it begins like gzip.

    `on_read` gets the number of bytes on disk that each read took.
    """
    plain = io.BufferedReader(_MeteredFile(path, on_read), _BUFFER)
    if plain.peek(2)[:2] != _GZIP:
        return plain
    return cast(IO[bytes], _OwningGzip(fileobj=plain, mode="rb"))


class _MeteredFile(io.FileIO):
    def __init__(self, path: Path, on_read: Callable[[int], None] | None):
        super().__init__(path, "rb")
        self._on_read = on_read

    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        if self._on_read and count:
            self._on_read(count)
        return count


class _OwningGzip(gzip.GzipFile):
    """A GzipFile that also closes the file it reads."""

    def __init__(self, fileobj: IO[bytes], mode: str):
        super().__init__(fileobj=fileobj, mode=mode)
        self._compressed = fileobj

    def close(self) -> None:
        super().close()
        self._compressed.close()


def _named_format(name: str) -> str | None:
    return FORMATS.get(Path(name.lower().removesuffix(".gz")).suffix)


def _expand(source: str, format: str) -> list[Path]:
    path = from_home(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _folder_files(path, format)
    matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    matches = [match for match in matches if match.is_file()]
    if matches:
        return matches
    if glob.has_magic(source) and not _HUB_NAME.fullmatch(source):
        raise CorpusError(f"No file matches {source}: check the pattern and the folder.")
    if _HUB_NAME.fullmatch(source) and not _looks_like_path(path):
        return _hub_files(source)
    raise CorpusError(f"There is no file {source}{_close_names(path)}.")


def _looks_like_path(path: Path) -> bool:
    """True for a mistyped path, which must not be looked up on the network: its first folder
    exists, or it is `folder/file` with the ending of a data file."""
    return Path(path.parts[0]).is_dir() or (
        len(path.parts) == 2 and _named_format(path.name) is not None
    )


def _folder_files(folder: Path, format: str) -> list[Path]:
    if holds_run(folder):
        raise CorpusError(f"{folder} is a run, not a corpus: name the text that is to be read.")
    files = _visible_files(folder)
    if not files:
        raise CorpusError(f"The folder {folder} holds no files: name one that holds a corpus.")
    if format != "auto":
        return files
    return _known(files) or [path for path in files if not _is_binary(path)] or files


def left_out(sources: Iterable[str | Path], format: str) -> str:
    """A line about the texts of folders that are not read, as others there have an ending that is
    known; empty if there are none."""
    folders = [path for path in map(from_home, sources) if path.is_dir()]
    if format != "auto" or not folders:
        return ""
    found: list[tuple[str, Path]] = []  # (ending, folder) of each text
    for folder in folders:
        files = _visible_files(folder)
        if known := {*_known(files)}:
            others = (path for path in files if path not in known and _is_text(path))
            found += [(path.suffix or path.name, folder) for path in others]
    if not found:
        return ""
    endings = Counter(ending for ending, _ in found)
    shown = ", ".join(name for name, _ in endings.most_common(3))
    if len(endings) > 3:
        shown += ", …"
    name = endings.most_common(1)[0][0]
    folder = next(folder for ending, folder in found if ending == name)
    pattern = folder / "**" / (f"*{name}" if name.startswith(".") else name)
    return (
        f"Left out: {counted(len(found), 'file')} of other endings ({shown}). Name them to "
        f"read them: '{pattern}'."
    )


def _known(files: Iterable[Path]) -> list[Path]:
    return [path for path in files if _named_format(path.name)]


def _visible_files(folder: Path) -> list[Path]:
    """All files of a folder, without hidden ones and those of runs."""

    def hidden(path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(folder).parts)

    return _outside_runs(sorted(p for p in folder.rglob("*") if p.is_file() and not hidden(p)))


def _outside_runs(files: list[Path]) -> list[Path]:
    """Without those of runs, which a training within the folder leaves there."""
    runs = set(filter(holds_run, {path.parent for path in files}))
    return [path for path in files if runs.isdisjoint(path.parents)]


def _is_binary(path: Path) -> bool:
    """True for a file with a zero byte early on that begins like nothing that can be read."""
    with path.open("rb") as stream:
        head = stream.read(1 << 13)
    return b"\0" in head and not head.startswith(_READABLE)


def _is_text(path: Path) -> bool:
    """True for a file that may be opened and is not binary."""
    try:
        return not _is_binary(path)
    except OSError:
        return False


def _close_names(path: Path) -> str:
    try:
        names = os.listdir(path.parent)
    except OSError:
        return f", and no folder {path.parent}: check the path"
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    return meant([str(path.parent / name) for name in close]) or ": check the path"


def _hub_files(source: str) -> list[Path]:
    """The data files of a hub data set, `owner/name` or `owner/name/pattern`, fetched or cached."""
    # Imported here, so that only hub data sets pay for the client.
    from huggingface_hub import snapshot_download

    owner, name, *rest = source.split("/", 2)
    repository, pattern = f"{owner}/{name}", rest[0] if rest else None
    with asking_hub(
        gated=CorpusError(
            f"The hub data set {repository} asks for an agreement: accept it on its page and log "
            "in, or give a file."
        ),
        missing=CorpusError(
            f"There is no file {source} and no hub data set {repository}: check the name."
        ),
        unreachable=CorpusError(
            f"There is no file {source}, and the hub data set {repository} is neither on this "
            "machine nor within reach: check the name and the connection, or give a file."
        ),
    ):
        listed = _hub_list(repository)
        wanted = _hub_choice(listed, pattern) or None
        if listed and not wanted:
            raise _no_hub_data(source)
        folder = Path(
            snapshot_download(
                repository,
                repo_type="dataset",
                allow_patterns=wanted,
                local_files_only=not listed,  # without a list, asking would fetch everything
            )
        )
    cached = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    chosen = _hub_choice(wanted or cached, pattern)
    if not chosen:
        raise _no_hub_data(source)
    return [folder / name for name in chosen]


def _hub_list(repository: str) -> list[str]:
    """The names of a data set's files; none where only the cache can be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return HfApi().list_repo_files(repository, repo_type="dataset")
    except (RepositoryNotFoundError, HFValidationError):  # GatedRepoError is a child of the first
        raise
    except Exception:  # offline by setting, or any of the HTTP client's own errors
        return []


def _no_hub_data(source: str) -> CorpusError:
    known = ", ".join(dict.fromkeys(FORMATS.values()))
    return CorpusError(f"{source} holds no data file that can be read ({known}): name another.")


def _hub_choice(names: list[str], pattern: str | None) -> list[str]:
    if pattern:
        names = [name for name in names if fnmatch.fnmatch(name, pattern)]
    names = [
        name
        for name in sorted(names)
        if not name.startswith(".")
        and Path(name).name not in _HUB_DESCRIPTIONS
        and not name.lower().endswith((".md", ".md.gz"))
    ]
    for kind in _HUB_PREFERENCE:
        chosen = [name for name in names if _named_format(name) == kind]
        if chosen:
            return chosen
    return []
