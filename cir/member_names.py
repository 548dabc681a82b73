"""Names of files: which endings are images, and which names are no member of any data set.

Every source of the indexer, and whatever else opens files that a catalog names, goes by these rules alone.
They hold in any letter case. Pure.
"""

from __future__ import annotations

import posixpath
import re
from enum import StrEnum

from cir.images.formats import IMAGE_SUFFIXES

_CAMERAS = (
    "3fr arw cr2 cr3 dcr dng erf iiq k25 kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
)
_DRAWINGS = "ai cdr emf eps epsf kra odg ps psb psd svg svgz wmf xcf"
_RARE = (
    "bpg cur dcm dds exr fit fits flif hdp hdr icns ico jls jng jxl jxr mng pbm pcx pfm pgm pnm ppm qoi "
    "ras rgb rgba sgi tga vtf wdp xbm xpm"
)
UNREAD_SUFFIXES = frozenset(f".{name}" for name in f"{_CAMERAS} {_DRAWINGS} {_RARE}".split())
"""Endings of images that the decoder does not read: passed over, and named, since somebody may miss them."""


class PassedOver(StrEnum):
    """Reason why something in a source is no item of the data set."""

    SYSTEM_FILE = "system_file"
    """A companion that an operating system or a storage device leaves behind, such as `._a.jpg`."""
    HIDDEN = "hidden"
    """A name that begins with a dot."""
    FORMAT_NOT_READ = "format_not_read"
    """An image of a format that the decoder does not read."""
    NO_IMAGE = "no_image"
    """A file with any other ending."""
    LINKED_FOLDER = "linked_folder"
    """A symbolic link to a folder, which is not entered."""
    SPECIAL_FILE = "special_file"
    """A named pipe, a socket or a device."""


_SYSTEM_NAMES = frozenset(
    (
        *(".ds_store", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems"),
        *(".documentrevisions-v100", ".apdisk", "icon\r", "__macosx", "network trash folder"),
        *(
            "thumbs.db",
            "thumbs.db:encryptable",
            "ehthumbs.db",
            "ehthumbs_vista.db",
            "desktop.ini",
            "$recycle.bin",
        ),
        *("system volume information", "picasa.ini", ".picasa.ini", "zbthumbnail.info"),
        *(
            "@eadir",
            "#recycle",
            "#snapshot",
            "~snapshot",
            "@recycle",
            "@recently-snapshot",
            "@tmp",
            ".@__thumb",
        ),
        *("lost+found", "pax_global_header", ".directory", ".nomedia"),
    )
)
# Companions of macOS, extended headers that an old tar has unpacked as files, locks of open documents.
_SYSTEM_PATTERN = re.compile(r"\._.*|paxheaders?(\.\w+)?|~\$.*", re.DOTALL)


def ending_of(name: str) -> str:
    """Return the ending of a file's name with its dot, in lower case; empty without one."""
    return posixpath.splitext(name)[1].lower()


def is_image_name(name: str) -> bool:
    """Return True for a file whose ending is that of a format which the decoder reads."""
    return ending_of(name) in IMAGE_SUFFIXES


def is_system_name(name: str) -> bool:
    """Return True for one component of a path that is never a member, wherever it stands."""
    lowered = name.lower()
    return lowered in _SYSTEM_NAMES or _SYSTEM_PATTERN.fullmatch(lowered) is not None


def reason_for_path(path: str, *, hidden: bool = True) -> PassedOver | None:
    """Return why a relative POSIX path is no member, by each name in it; None if it may be one.

    Without `hidden` names that begin with a dot are taken: where a person has named the file, rather than
    where a folder was walked.
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    if any(is_system_name(part) for part in parts):
        return PassedOver.SYSTEM_FILE
    if hidden and any(part.startswith(".") for part in parts):
        return PassedOver.HIDDEN
    return None


def reason_for_named(image: str) -> PassedOver | None:
    """Return why a path or URL in a list of images is no member; None if it may be one.

    The file's own name counts, and those of the folders of a relative path: lists are made of listings.
    """
    named = image.rpartition("/")[2] if image.startswith("/") or "://" in image else image
    return reason_for_path(named, hidden=False)


def reason_for_file(path: str) -> PassedOver | None:
    """Return why the file at a relative POSIX path is no image, by its names alone; None if it is one."""
    if reason := reason_for_path(path):
        return reason
    ending = ending_of(path)
    if ending in IMAGE_SUFFIXES:
        return None
    return PassedOver.FORMAT_NOT_READ if ending in UNREAD_SUFFIXES else PassedOver.NO_IMAGE
