"""A folder of images, with all its subfolders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from cir.fields import FieldType
from cir.images.formats import IMAGE_SUFFIXES
from cir.member_names import PassedOver, reason_for_file, reason_for_path
from indexer.errors import SourceError
from indexer.rejects import IMAGE_MISSING, IMAGE_OUTSIDE_ROOT, Reject
from indexer.sources.base import ImageRoot, Source, SourceFacts, SourceItem
from indexer.sources.image_folders import fold_folders
from indexer.sources.passed_over import PassedOverCount

PassOver = Callable[[PassedOver, str], None]
SCHEMA = {"folder": FieldType.KEYWORD, "filename": FieldType.KEYWORD}


class FolderSource(Source):
    """Every image below `root`, in the order of its path.

    The id is the POSIX path relative to the root, so it is stable as long as the file stays where it is;
    the payload is `filename`, and `folder` for files in subfolders. Files are taken by their names
    (`cir.member_names`); all others are passed over and counted. A symbolic link to a file below the root is
    an item of its own; linked folders are not entered, and a link that leaves the root is a reject.
    """

    def __init__(self, root: Path, *, image_base: str = "") -> None:
        self._root = ImageRoot(root, image_base)
        self.name = str(root)
        self.beside = self._root.path.parent / (self._root.path.name or "root")

    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        """Count the images.

        Raises:
            SourceError: a folder that is missing, unreadable or empty; columns, which a folder does not have.
        """
        if columns:
            raise SourceError(f"{self.name} is a folder; columns are chosen of manifests and shards only")
        if not self._root.path.is_dir():
            what = "is no folder" if self._root.path.exists() else "does not exist"
            raise SourceError(f"folder {self.name} {what}; give a folder of images, or a manifest file")
        count = PassedOverCount()
        total = sum(1 for _ in self._walk(self._root.path, PurePosixPath(), count.add))
        passed_over = count.files()
        if not total:
            seen = f"; passed over: {passed_over.text}" if passed_over.counts else ""
            raise SourceError(
                f"folder {self.name} holds no images; expected files ending in "
                f"{' '.join(sorted(IMAGE_SUFFIXES))}{seen}"
            )
        folders = fold_folders([self._root.location_folder])
        return SourceFacts(total=total, schema=SCHEMA, image_folders=folders, passed_over=passed_over)

    def items(self) -> Iterator[SourceItem | Reject]:
        """The images.

        Raises:
            SourceError: an unreadable subfolder, as nobody knows what is lost.
        """
        return self._walk(self._root.path, PurePosixPath(), lambda reason, path: None)

    def _walk(
        self, folder: Path, relative: PurePosixPath, pass_over: PassOver
    ) -> Iterator[SourceItem | Reject]:
        # No recursion: folders may be nested deeper than calls may be.
        entered = [(_entries(folder), relative)]
        while entered:
            entries, relative = entered[-1]
            entry = next(entries, None)
            if entry is None:
                entered.pop()
                continue
            path = relative / entry.name
            if reason := reason_for_path(entry.name):
                pass_over(reason, f"{path}/" if entry.is_dir(follow_symlinks=False) else str(path))
            elif entry.is_symlink():
                yield from self._linked(entry, path, pass_over)
            elif entry.is_dir():
                entered.append((_entries(Path(entry.path)), path))
            elif reason := reason_for_file(entry.name):
                pass_over(reason, str(path))
            elif entry.is_file():
                yield self._item(entry, path)
            else:
                pass_over(PassedOver.SPECIAL_FILE, str(path))

    def _linked(
        self, entry: os.DirEntry[str], path: PurePosixPath, pass_over: PassOver
    ) -> Iterator[SourceItem | Reject]:
        target = Path(entry.path)
        try:
            is_folder, inside, there = target.is_dir(), self._root.contains(target), target.exists()
        except (OSError, RuntimeError):  # a link that leads to itself, or where nobody may look
            is_folder, inside, there = False, True, False
        if not is_folder and (reason := reason_for_file(entry.name)):
            pass_over(reason, str(path))
            return
        location = self._root.location(str(path))
        if not inside:
            message = f"{path} is a link that leaves the folder; put the file itself there"
            yield Reject(str(path), location, IMAGE_OUTSIDE_ROOT, message)
        elif is_folder:
            pass_over(PassedOver.LINKED_FOLDER, f"{path}/")
        elif not there:
            yield Reject(
                str(path), location, IMAGE_MISSING, f"{path} is a link to a file that does not exist"
            )
        elif target.is_file():
            yield self._item(entry, path)
        else:
            pass_over(PassedOver.SPECIAL_FILE, str(path))

    def _item(self, entry: os.DirEntry[str], path: PurePosixPath) -> SourceItem:
        payload = {"filename": entry.name}
        if path.parent.name:
            payload["folder"] = str(path.parent)
        return SourceItem(str(path), Path(entry.path), self._root.location(str(path)), payload)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Return what a folder holds, by name.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return iter(sorted(found, key=lambda entry: entry.name))
    except OSError as error:
        raise SourceError(
            f"folder {folder} cannot be read: {error.strerror}; make it readable, or move it elsewhere"
        ) from error
