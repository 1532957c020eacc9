"""List a folder of photos at a URL, whose folders of one level are the classes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from deploy.contract import check_label
from deploy.errors import BadData
from deploy.system.counts import with_noun
from deploy.user_files import is_user_file
from retrain.data import store
from retrain.data.folder_layout import SPLIT_BY_NAME, ClassFolder
from retrain.data.listed import Listed, to_batches
from retrain.data.remote_path import RemotePath
from retrain.data.scan_parts import ScanParts


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of photos at a URL, as a source: each class folder is listed when it comes up."""

    root: RemotePath
    classes: tuple[ClassFolder, ...]
    loose: int
    all_claim: bool = False

    @classmethod
    def open(cls, root: RemotePath, level: int = 1) -> "RemoteFolder":
        """Find the class folders, `level` levels below `root`; raise BadData, OSError."""
        parents, loose = [root], 0
        for depth in range(level):
            folders = []
            for parent in parents:
                names = store.list_names(str(parent))
                folders += [
                    parent / name for name, is_folder in names if is_folder and is_user_file(name)
                ]
                loose += sum(not is_folder and is_user_file(name) for name, is_folder in names)
            if not folders:
                remedy = "lower `labels_from`" if depth else "expected one for each class"
                raise BadData(
                    f"{root}: no folders {with_noun(depth + 1, 'level')} below it: {remedy}"
                )
            parents = folders
        for folder in parents:
            try:
                check_label(folder.name)
            except BadData as error:
                raise BadData(f"{folder.parent}: {error}: rename the folder") from error
        return cls(root, tuple(ClassFolder(folder.name, folder) for folder in parents), loose)

    def batches(self, _last: ScanParts) -> Iterator[pa.RecordBatch]:
        """Yield the user's files below the class folders."""
        return to_batches(self._rows())

    def _rows(self) -> Iterator[Listed]:
        for folder in self.classes:
            below = len(str(folder.path)) + 1
            for url, facts in store.list_files(str(folder.path)):
                if all(map(is_user_file, url[below:].split("/"))):
                    yield Listed(
                        os.fsencode(url), folder.label, size=facts.size, version=facts.version
                    )

    def remarks(self) -> tuple[str, ...]:
        """Return a warning of files outside of class folders, and one of folders of splits."""
        lines = []
        if self.loose:
            are = "is" if self.loose == 1 else "are"
            lines.append(
                f"{with_noun(self.loose, 'file')} beside the folders of classes {are} left out"
            )
        splits = [name for name in (folder.label for folder in self.classes) if _is_split(name)]
        if len(splits) > 1:
            lines.append(
                f"{self.root}: the folders {', '.join(splits)} are trained as classes, though they "
                "are named as splits: if the folders in them are the classes, use `labels_from` 2, "
                "or a list with a column `split`"
            )
        return tuple(lines)


def _is_split(name: str) -> bool:
    return name.strip().casefold() in SPLIT_BY_NAME
