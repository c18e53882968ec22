from pathlib import Path

import pytest

from vesalius.core.atomic import locked_folder, writable_new_file, writable_new_folder
from vesalius.core.paths import did_you_mean_path, is_url
from vesalius.errors import VesaliusError

URLS = ["s3://bucket/set", "file:///tmp/set", "memory://set", "gs://b/s.parquet", "https://h/x.csv"]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_refused_before_a_folder_of_its_name_is_made(url, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for check in (writable_new_file, writable_new_folder):
        with pytest.raises(VesaliusError, match="mount the store"):
            check(kind(url))
    with pytest.raises(VesaliusError, match="mount the store"), locked_folder(Path(url)):
        pass
    assert "mount the store" in did_you_mean_path(kind(url))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["a/b", "./s3", "C:/data", "a:b", "/tmp/x:/y", "scan 1:/a"])
def test_a_path_is_no_url(path):
    assert not is_url(path) and not is_url(Path(path))
