"""Manifests over the mount: every editor and tool, every rule of a write (section 6)."""
from __future__ import annotations

import errno
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from harness import ECHO, custom, documents, never, wait_for
from mounted import Mounted, needs_fuse

pytestmark = needs_fuse


def text(id: str, name: str = "", **more: object) -> str:
    """A manifest as people write it, with a comment."""
    lines = [f"# {id} as it is", "kind: trigger", f"id: {id}", f"name: {name or id}", "pipeline_id: p",
             "trigger_type: custom", f"config: {{endpoint: {id}}}"]
    return "\n".join(lines + [f"{k}: {json.dumps(v)}" for k, v in more.items()]) + "\n"


def bad(id: str) -> str:
    return text(id).replace("trigger_type: custom", "trigger_type: none")


def name_of(d: Mounted, id: str) -> str:
    return d.trigger(id)["name"]


@pytest.fixture
def e(make_mounted: Callable[..., Mounted]) -> Mounted:
    """A daemon that runs, with the trigger `b` in b.yaml and the pipeline `p`."""
    d = make_mounted()
    d.write("p.yaml", ECHO)
    d.write("b.yaml", text("b"))
    d.start()
    return d


@pytest.fixture(params=["manifests/b.yaml", "triggers/b/manifest.yaml"])
def file(request: pytest.FixtureRequest, e: Mounted) -> Path:
    """The manifest of `b`, by both of its names."""
    return e.m / request.param


def close_fails(fd: int, code: int) -> None:
    with pytest.raises(OSError) as failure:
        os.close(fd)
    assert failure.value.errno == code


# ---- what a write does ----


def test_a_good_write_is_in_force_when_it_returns(e: Mounted, file: Path) -> None:
    for i in range(20):
        file.write_text(text("b", f"n{i}"))
        assert json.loads((e.m / "triggers/b/status.json").read_text())["name"] == f"n{i}"
    assert file.read_text() == text("b", "n19") == (e.manifests / "b.yaml").read_text()
    assert e.trigger("b")["generation"] == 21  # the first, and none of the twenty lost or twice
    assert "uid=0 gid=0 pid=" in next(line for line in e.output().splitlines() if ": written" in line)


def test_a_write_by_one_name_is_seen_by_the_other(e: Mounted) -> None:
    names = [e.m / "triggers/b/manifest.yaml", e.m / "manifests/b.yaml"]
    for i in range(20):
        names[i % 2].write_text(text("b", f"n{i}"))
        assert names[1 - i % 2].read_text() == text("b", f"n{i}")
        assert names[i % 2].stat().st_size == names[1 - i % 2].stat().st_size
    (e.m / "triggers/new").mkdir()
    (e.m / "triggers/new/manifest.yaml").write_text(text("new"))
    assert sorted(os.listdir(e.m / "manifests")) == ["b.yaml", "new.yaml", "p.yaml"]
    (e.m / "triggers/new").rmdir()
    assert sorted(os.listdir(e.m / "manifests")) == ["b.yaml", "p.yaml"]


def test_an_invalid_write_is_einval_at_close_and_harms_nothing(e: Mounted, file: Path) -> None:
    before = e.trigger("b")
    for tool in (["cp", "-f", "/dev/stdin", str(file)], ["bash", "-c", f"cat > {file}"],
                 ["dd", f"of={file}", "status=none"], ["tee", str(file)]):
        done = subprocess.run(tool, input=bad("b"), text=True, capture_output=True)
        assert done.returncode != 0 and "Invalid argument" in done.stderr, tool
    assert file.read_text() == text("b")
    home = e.m / "triggers/b"
    assert (home / "manifest.rejected.yaml").read_text() == bad("b")
    where, line, column, word, *_ = (home / "error").read_text().split(":")
    assert (line, column, word) == ("6", "15", " error")
    assert (e.m / "errors").read_text().startswith(f"{where}:6:15: trigger_type: expected one of")
    assert e.trigger("b") == before
    file.write_text(text("b", "mended"))
    assert (home / "error").read_text() == "" and not (home / "manifest.rejected.yaml").exists()
    assert (e.m / "errors").read_text() == ""


def test_what_was_not_written_is_not_judged(e: Mounted, file: Path) -> None:
    file.open("w").close()  # as a shell does before it starts the command
    assert file.read_text() == text("b")
    os.close(os.open(file, os.O_RDWR))
    assert e.trigger("b")["generation"] == 1


def test_writes_at_places_appends_and_truncates(e: Mounted, file: Path) -> None:
    with file.open("a") as f:
        f.write("description: more\n")
    assert file.read_text() == text("b") + "description: more\n"
    fd = os.open(file, os.O_RDWR)
    place = (text("b")).index("name: b") + len("name: ")
    os.pwrite(fd, b"c", place)
    assert os.pread(fd, 7, place - 6) == b"name: c"
    os.ftruncate(fd, len(text("b")))
    assert os.fstat(fd).st_size == len(text("b"))
    os.close(fd)
    assert e.trigger("b")["name"] == "c" and not e.trigger("b")["description"]
    with pytest.raises(OSError) as failure:
        os.truncate(file, 40)
    assert failure.value.errno == errno.EINVAL
    assert len(file.read_text()) == len(text("b"))
    fd = os.open(file, os.O_WRONLY | os.O_APPEND)
    os.pwrite(fd, b"description: at the end\n", 0)  # offsets are ignored
    os.close(fd)
    assert e.trigger("b")["description"] == "at the end"


def test_two_commands_into_one_file(e: Mounted, file: Path) -> None:
    (e.data / "1").write_text(text("b", "two"))
    (e.data / "2").write_text("description: commands\n")
    e.ok(f"{{ cat {e.data}/1; cat {e.data}/2; }} > {file}")
    assert e.trigger("b")["description"] == "commands"
    # Half a manifest in between: that cat is told so, the whole is taken.
    (e.data / "1").write_text(text("b", "half").replace("config", "# config"))
    (e.data / "2").write_text("config: {endpoint: b}\n")
    done = e.sh(f"{{ cat {e.data}/1; cat {e.data}/2; }} > {file}")
    assert done.stderr.count("Invalid argument") == 1
    assert name_of(e, "b") == "half"


def test_readers_get_the_flushed_text_and_sizes_those_of_the_buffer(e: Mounted, file: Path) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, text("b", "longer name").encode())
    assert os.fstat(fd).st_size == file.stat().st_size == len(text("b", "longer name"))
    assert file.read_text() == text("b")  # not flushed yet
    os.fsync(fd)
    assert file.read_text() == text("b", "longer name")
    wait_for(lambda: name_of(e, "b") == "longer name", what="committed after 200 ms without a write, still open")
    os.write(fd, b"nonsense: [\n")
    with pytest.raises(OSError) as failure:
        os.fsync(fd)
    assert failure.value.errno == errno.EINVAL
    assert file.read_text() == text("b", "longer name") and file.stat().st_size == len(text("b", "longer name"))
    close_fails(fd, errno.EINVAL)


def test_an_open_reads_one_version(e: Mounted, file: Path) -> None:
    with file.open() as f:
        assert f.read(10) == text("b")[:10]
        file.write_text(text("b", "another"))
        assert f.read() == text("b")[10:]


def test_a_new_file_that_is_invalid_does_not_come_to_be(e: Mounted) -> None:
    fd = os.open(e.m / "manifests/new.yaml", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert "new.yaml" in os.listdir(e.m / "manifests")
    os.write(fd, bad("new").encode())
    close_fails(fd, errno.EINVAL)
    assert "new.yaml" not in os.listdir(e.m / "manifests")
    assert not (e.m / "manifests/new.yaml").exists() and not (e.manifests / "new.yaml").exists()
    assert "new.yaml:6:15: " in (e.m / "errors").read_text()
    (e.m / "manifests/new.yaml").write_text(text("new"))
    assert (e.m / "errors").read_text() == "" and e.exists("new")


def test_an_empty_file_is_made(e: Mounted) -> None:
    """It holds no resource: nothing is wrong with it. But a resource's own manifest is never empty."""
    at = e.m / "manifests"
    e.ok(f"touch manifests/t.yaml && : > manifests/s.yaml && : > {e.data}/c.yaml && cp {e.data}/c.yaml manifests/")
    for name in ("t.yaml", "s.yaml", "c.yaml"):
        assert (at / name).read_bytes() == b""
        wait_for(lambda n=name: (e.manifests / n).exists(), what="on disk")
    assert (e.m / "errors").read_text() == ""
    wait_for(lambda: "t.yaml: written uid=0 gid=0 pid=" in e.output(), what="logged")
    e.ok("rm manifests/?.yaml; ls manifests")
    e.ok("mkdir triggers/n && touch triggers/n/manifest.yaml && rmdir triggers/n")
    assert not e.exists("n")
    bad_one = os.open(at / "bad.yaml", os.O_WRONLY | os.O_CREAT)
    other = os.open(at / "bad.yaml", os.O_WRONLY)  # which writes nothing
    os.write(bad_one, bad("x").encode())
    close_fails(bad_one, errno.EINVAL)
    os.close(other)
    assert not (at / "bad.yaml").exists()


def test_an_id_that_is_taken(e: Mounted) -> None:
    with pytest.raises(OSError) as failure:
        (e.m / "manifests/other.yaml").write_text(text("b"))
    assert failure.value.errno == errno.EINVAL
    assert "is already defined in" in (e.m / "errors").read_text()


def test_a_manifest_of_another_id_is_refused(e: Mounted) -> None:
    for other in (text("c"), documents(ECHO), text("b") + "---\n" + text("c")):
        with pytest.raises(OSError) as failure:
            (e.m / "triggers/b/manifest.yaml").write_text(other)
        assert failure.value.errno == errno.EINVAL
        assert 'expected' in (e.m / "triggers/b/error").read_text()
    assert not e.exists("c")


def test_other_documents_and_comments_of_the_file_stay(e: Mounted) -> None:
    e.write("many.yaml", text("m1") + "---\n" + text("m2") + "---\n" + text("m3"))
    wait_for(lambda: e.exists("m3"), what="loaded")
    file = e.m / "triggers/m2/manifest.yaml"
    assert file.read_text() == text("m2")
    file.write_text(text("m2", "changed") + "# a last word\n")
    assert name_of(e, "m2") == "changed"
    assert (e.manifests / "many.yaml").read_text() == (text("m1") + "---\n" + text("m2", "changed") +
                                                      "# a last word\n---\n" + text("m3"))
    assert e.trigger("m1")["generation"] == e.trigger("m3")["generation"] == 1


def test_a_rename_commits(e: Mounted, file: Path) -> None:
    beside = file.with_name("b.tmp")
    beside.write_text(text("b", "renamed"))
    beside.rename(file)
    assert name_of(e, "b") == "renamed" and not beside.exists()
    beside.write_text(bad("b"))
    with pytest.raises(OSError) as failure:
        beside.rename(file)
    assert failure.value.errno == errno.EBADMSG
    assert beside.read_text() == bad("b") and file.read_text() == text("b", "renamed")
    assert (e.m / "triggers/b/error").read_text()


def test_scratch_files_live_in_memory_only(e: Mounted, file: Path) -> None:
    for name in ("4913", ".b.yaml.swp", "b.yaml~", ".#b.yaml", "#b.yaml#", "x.tmp", "sedAbC123", ".goutputstream-X1"):
        path = file.with_name(name)
        path.write_text("anything")
        assert path.read_text() == "anything" and name in os.listdir(file.parent)
        path.chmod(0o600)
        os.utime(path)
        path.unlink()
        assert not path.exists()
    file.with_name(".#b.yaml").symlink_to("me@here.1")
    assert os.readlink(file.with_name(".#b.yaml")) == "me@here.1"
    assert sorted(os.listdir(e.manifests)) == ["b.yaml", "p.yaml"]


# ---- names that come and go ----


def test_a_manifest_moved_or_removed_has_a_grace(e: Mounted, file: Path) -> None:
    file.rename(file.with_name("b.yaml~"))
    assert not file.exists() and file.name not in os.listdir(file.parent)
    assert e.exists("b")
    file.write_text(text("b", "back"))
    never(lambda: not e.exists("b"), 2.5, "deleted by a save")
    assert e.trigger("b")["generation"] == 2
    file.unlink()
    never(lambda: not e.exists("b"), 1, "deleted without grace")
    begin = time.monotonic()
    wait_for(lambda: not e.exists("b"), 4, "deleted")
    assert time.monotonic() - begin < 3  # the graces do not add up
    assert not (e.manifests / "b.yaml").exists()


def test_an_error_lasts_as_long_as_what_is_wrong(e: Mounted) -> None:
    """Until the text is replaced, by whatever way, or what it was of is gone."""
    def errors() -> set[str]:
        return {line.split(":")[0] for line in (e.m / "errors").read_text().splitlines()}

    e.sh("echo '{' > triggers/b/manifest.yaml")
    e.sh("echo '{' > manifests/b.yaml")
    assert len(errors()) == 2 and "rejected" in (e.m / "triggers/b/error").read_text()
    assert e.http("PUT", "/api/v1/triggers/b", {"name": "other"}).status == 200
    assert errors() == set() and (e.m / "triggers/b/error").read_text() == ""
    (e.data / "bad").write_text(bad("b"))
    done = e.sh(f"cp -p {e.data}/bad /dev/shm/bad.yaml; mv /dev/shm/bad.yaml manifests/b.yaml")  # removes it first, and writes
    assert "Invalid argument" in done.stderr
    assert errors() == {str(e.manifests / "b.yaml")} and (e.m / "triggers/b/error").read_text()
    assert (e.m / "triggers/b/manifest.rejected.yaml").read_text() == bad("b")
    assert name_of(e, "b") == "other" and "name: other" in (e.m / "manifests/b.yaml").read_text()
    e.ok("rm manifests/b.yaml")
    wait_for(lambda: not e.exists("b"), what="gone")
    assert errors() == set()
    e.ok("mkdir triggers/n")
    e.sh("echo '{' > triggers/n/manifest.yaml")
    assert errors() == {str(e.m / "triggers/n/manifest.rejected.yaml")}
    e.ok("rmdir triggers/n")
    assert errors() == set()


def test_times_and_modes_of_a_manifest(e: Mounted) -> None:
    path = e.m / "manifests/b.yaml"
    generation = e.trigger("b")["generation"]
    for tool in ("touch -d @1000000000 {}", "touch -c -d @1100000000 {}", "python3 -c 'import os; os.utime(\"{}\", (12e8, 12e8))'"):
        e.ok(tool.format("manifests/b.yaml"))
    assert path.stat().st_mtime == (e.manifests / "b.yaml").stat().st_mtime == 12e8
    with path.open("r+") as file:
        os.utime(file.fileno(), (1e9, 1e9))
        assert os.fstat(file.fileno()).st_mtime == path.stat().st_mtime == 1e9
    assert (e.manifests / "b.yaml").stat().st_mtime == 1e9
    e.ok("touch -d @1300000000 manifests/b.yaml")  # opens it
    assert path.stat().st_mtime == 13e8
    e.ok("chmod 751 manifests/b.yaml; chown 0:0 manifests/b.yaml")
    assert (e.manifests / "b.yaml").stat().st_mode & 0o777 == 0o751
    assert e.trigger("b")["generation"] == generation


def test_an_invalid_save_by_rename_leaves_what_was(e: Mounted, file: Path) -> None:
    file.rename(file.with_name("b.yaml~"))
    with pytest.raises(OSError) as failure:
        file.write_text(bad("b"))
    assert failure.value.errno == errno.EINVAL
    never(lambda: not e.exists("b"), 2.5, "deleted by an edit that failed")
    assert file.read_text() == text("b")
    assert name_of(e, "b") == "b"


def test_a_move_is_no_delete(e: Mounted) -> None:
    os.mkdir(e.m / "manifests/sub")
    os.rename(e.m / "manifests/b.yaml", e.m / "manifests/sub/c.yaml")
    assert e.trigger("b")["source"]["file"].endswith("/sub/c.yaml")
    assert e.trigger("b")["generation"] == 1
    os.rename(e.m / "manifests/sub/c.yaml", e.m / "manifests/sub/c.disabled")  # no manifest any more
    wait_for(lambda: not e.exists("b"), what="deleted")
    os.rename(e.m / "manifests/sub/c.disabled", e.m / "manifests/b.yaml")
    assert e.exists("b")
    (e.m / "manifests/broken").write_text(bad("x"))
    with pytest.raises(OSError) as failure:
        os.rename(e.m / "manifests/broken", e.m / "manifests/x.yaml")
    assert failure.value.errno == errno.EBADMSG


def test_mkdir_and_rmdir_of_triggers(e: Mounted) -> None:
    e.ok("mkdir triggers/n && ls triggers | grep -x n")
    assert os.listdir(e.m / "triggers/n") == []
    (e.data / "n.yaml").write_text(text("n"))
    e.ok(f"cp {e.data}/n.yaml triggers/n/manifest.yaml")
    assert e.exists("n") and (e.manifests / "n.yaml").read_text() == text("n")
    assert "status.json" in os.listdir(e.m / "triggers/n")
    with pytest.raises(FileExistsError):
        os.mkdir(e.m / "triggers/n")
    os.rmdir(e.m / "triggers/n")
    assert not e.exists("n") and not (e.manifests / "n.yaml").exists() and not (e.m / "triggers/n").exists()
    for _ in range(3):  # its file has its name each time
        e.ok(f"mkdir triggers/n && cp {e.data}/n.yaml triggers/n/manifest.yaml && test -f manifests/n.yaml && rmdir triggers/n")
    assert sorted(os.listdir(e.manifests)) == ["b.yaml", "p.yaml"]
    os.mkdir(e.m / "triggers/n")
    e.ok(f"cp {e.data}/n.yaml triggers/n/")  # by its own name
    assert e.exists("n")
    for wrong in ("UPPER", "events", ".x"):
        with pytest.raises(OSError) as failure:
            os.mkdir(e.m / "triggers" / wrong)
        assert failure.value.errno == errno.EINVAL
    os.mkdir(e.m / "triggers/empty")
    os.rmdir(e.m / "triggers/empty")
    os.mkdir(e.m / "pipelines/q")
    (e.m / "pipelines/q/manifest.yaml").write_text(documents({**ECHO, "id": "q"}))
    assert e.get("/api/v1/pipelines/q")["id"] == "q"
    os.rmdir(e.m / "pipelines/q")


def test_a_recreated_id_is_another_file(e: Mounted) -> None:
    old = os.open(e.m / "triggers/b", os.O_RDONLY)
    ino = (e.m / "triggers/b").stat().st_ino
    os.rmdir(e.m / "triggers/b")
    (e.m / "manifests/b.yaml").write_text(text("b"))
    assert (e.m / "triggers/b").stat().st_ino != ino == os.fstat(old).st_ino
    os.close(old)


def test_several_manifest_directories(make_mounted: Callable[..., Mounted]) -> None:
    d = make_mounted()
    other = d.root / "other" / "manifests"
    other.mkdir(parents=True)
    (other / "o.yaml").write_text(text("o"))
    d.args += ["--manifests", str(other)]
    d.write("b.yaml", text("b"), )
    d.start()
    assert sorted(os.listdir(d.m / "manifests")) == ["manifests", "manifests-2"]
    (d.m / "manifests/manifests-2/o.yaml").write_text(text("o", "edited"))
    assert d.trigger("o")["name"] == "edited"


def test_a_read_only_directory_is_erofs(e: Mounted) -> None:
    subprocess.run(["mount", "--bind", "-o", "ro", str(e.manifests), str(e.manifests)], check=False)
    done = subprocess.run(["mount", "-o", "remount,bind,ro", str(e.manifests)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("no bind mounts here")
    try:
        wait_for(lambda: e.exists("b"), what="still there")
        for path in ("manifests/b.yaml", "manifests/new.yaml"):
            with pytest.raises(OSError) as failure:
                (e.m / path).write_text(text("b", "x"))
            assert failure.value.errno == errno.EROFS
    finally:
        subprocess.run(["umount", str(e.manifests)], check=True)


# ---- what passes through ----


def test_every_other_name_passes_through(e: Mounted) -> None:
    at = e.m / "manifests"
    (at / "notes.txt").write_text("hello\n")
    (at / "tool.sh").write_text("#!/bin/sh\necho ran\n")
    (at / "tool.sh").chmod(0o755)
    assert subprocess.run([at / "tool.sh"], capture_output=True, text=True, check=True).stdout == "ran\n"
    (at / "deep/er").mkdir(parents=True)
    (at / "deep/er/data.bin").write_bytes(os.urandom(3_000_000))
    assert (at / "deep/er/data.bin").read_bytes() == (e.manifests / "deep/er/data.bin").read_bytes()
    os.symlink("notes.txt", at / "link")
    assert (at / "link").read_text() == "hello\n" and os.readlink(e.manifests / "link") == "notes.txt"
    os.utime(at / "notes.txt", (1, 1_000_000_000))
    assert (e.manifests / "notes.txt").stat().st_mtime == 1_000_000_000 == (at / "notes.txt").stat().st_mtime
    with (at / "notes.txt").open("r+") as f:
        held = f.fileno()
        os.unlink(at / "notes.txt")
        os.write(held, b"bye")
        os.lseek(held, 0, 0)
        assert os.read(held, 10) == b"byelo\n" and os.fstat(held).st_size == 6
    shutil.rmtree(at / "deep")
    assert sorted(os.listdir(e.manifests)) == ["b.yaml", "link", "p.yaml", "tool.sh"]
    assert os.statvfs(at).f_blocks == os.statvfs(e.manifests).f_blocks
    with pytest.raises(PermissionError):
        os.link(at / "tool.sh", at / "hard")


def test_links_lead_nowhere_else(e: Mounted) -> None:
    """A path of ours is never followed through a link on the way: only the kernel follows them, as the caller."""
    os.symlink("/etc", e.manifests / "out")
    assert os.readlink(e.m / "manifests/out") == "/etc"
    assert (e.m / "manifests/out/hostname").read_text() == Path("/etc/hostname").read_text()


# ---- tools ----


def editor(name: str, command: str) -> object:
    return pytest.param(name, command, id=name)


VIM = "vim -es -u NONE -c 'set backupcopy={} writebackup' -c '%s/name: .*/name: edited/' -c 'wq!' FILE"


@pytest.mark.parametrize("tool, command", [
    editor("vim-yes", VIM.format("yes")),
    editor("vim-no", VIM.format("no")),
    editor("vim-auto", VIM.format("auto")),
    editor("vim-breaks", VIM.format("auto,breakhardlink") + " # and with its swap file beside"),
    editor("sed", "sed -i 's/name: .*/name: edited/' FILE"),
    editor("sed-backup", "sed -i~ 's/name: .*/name: edited/' FILE"),
    editor("perl", "perl -i -pe 's/name: .*/name: edited/' FILE"),
    editor("perl-backup", "perl -i~ -pe 's/name: .*/name: edited/' FILE"),
    editor("ed", "printf '%s\\n' ',s/name: .*/name: edited/' w q | ed -s FILE"),
    editor("emacs", "command -v emacs >/dev/null || exit 77; emacs --batch FILE --eval "
           "'(progn (goto-char (point-min)) (re-search-forward \"name: .*\") (replace-match \"name: edited\") "
           "(save-buffer))'"),
    editor("cp", "sed 's/name: .*/name: edited/' FILE > DATA/x && cp DATA/x FILE"),
    editor("cp-p", "sed 's/name: .*/name: edited/' FILE > DATA/x && cp -p DATA/x FILE"),
    editor("mv", "sed 's/name: .*/name: edited/' FILE > DATA/x && mv DATA/x FILE"),
    editor("install", "sed 's/name: .*/name: edited/' FILE > DATA/x && install -m 644 DATA/x FILE"),
    # (the time of triggers/ID/manifest.yaml is that of the resource)
    editor("rsync", "sed 's/name: .*/name: edited/' FILE > DATA/x && touch -d @1000000000 DATA/x && rsync -a DATA/x FILE && "
           "case FILE in */triggers/b/*) rsync -ainc --no-perms --no-times DATA/x FILE;; *) rsync -ain --no-perms DATA/x FILE;; esac"),
    editor("rsync-inplace", "sed 's/name: .*/name: edited/' FILE > DATA/x && rsync --inplace DATA/x FILE"),
    editor("jq-tee", "sed 's/name: .*/name: edited/' FILE | tee DATA/x > /dev/null; tee FILE < DATA/x > /dev/null"),
    editor("dd", "sed 's/name: .*/name: edited/' FILE > DATA/x && dd if=DATA/x of=FILE bs=7 status=none"),
    editor("python", "python3 -c 'import pathlib; p = pathlib.Path(\"FILE\"); "
           "p.write_text(p.read_text().replace(\"name: b\", \"name: edited\"))'"),
])
def test_editors_and_tools(e: Mounted, file: Path, tool: str, command: str) -> None:
    generation = e.trigger("b")["generation"]
    done = e.sh(command.replace("FILE", str(file)).replace("DATA", str(e.data)), timeout=60)
    if done.returncode == 77:
        pytest.skip(f"{tool} is not installed")
    assert done.returncode == 0, done.stdout + done.stderr
    if tool != "sed":  # rsync -n would list what differs still
        assert done.stdout == "", done.stdout
    assert name_of(e, "b") == "edited"
    assert "# b as it is\n" in file.read_text()
    wait_for(lambda: "4913" not in os.listdir(e.manifests), what="nothing of it left")
    left = [n for n in os.listdir(e.manifests) if n not in ("b.yaml", "p.yaml")]
    assert left == [], left
    never(lambda: not e.exists("b"), 0.3, "deleted")
    assert e.trigger("b")["generation"] == generation + 1


def test_nano(e: Mounted, file: Path) -> None:
    """On a terminal: replace, save, leave."""
    if not shutil.which("nano"):
        pytest.skip("nano is not installed")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("nano", ["nano", "-I", str(file)], {**os.environ, "TERM": "xterm", "LC_ALL": "C"})
    shown = b""
    for keys in (b"\x1c", b"name: b\r", b"name: edited\r", b"a", b"\x0f", b"\r", b"\x18"):
        quiet = 20.0  # it shows something in any case, and then waits for the next key
        while select.select([terminal], [], [], quiet)[0]:
            shown += os.read(terminal, 65536)
            quiet = 0.4
        os.write(terminal, keys)
    with suppress(OSError):
        while select.select([terminal], [], [], 5)[0]:
            shown += os.read(terminal, 65536)
    os.close(terminal)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert name_of(e, "b") == "edited", shown
    assert e.trigger("b")["generation"] == 2


def test_tar_and_diff(e: Mounted) -> None:
    e.ok(f"tar -cf {e.data}/m.tar manifests && rm manifests/b.yaml && tar -xf {e.data}/m.tar && diff -r manifests {e.manifests}")
    never(lambda: not e.exists("b"), 2.5, "deleted")
    e.ok(f"tar -cf {e.data}/all.tar --exclude=stream --exclude=log --exclude=metrics . && tar -tf {e.data}/all.tar | grep -q triggers/b/status.json")


GIT = "git -c user.name=me -c user.email=me@example.org -c init.defaultBranch=main"


def test_git_inside_manifests(e: Mounted) -> None:
    at = "cd manifests &&"
    e.ok(f"{at} {GIT} init -q . && {GIT} add -A && {GIT} commit -qm one && test -z \"$({GIT} status --porcelain)\"")
    e.ok(f"{at} {GIT} checkout -qb feature && sed -i 's/name: .*/name: feature/' b.yaml && {GIT} commit -qam two")
    (e.m / "manifests/c.yaml").write_text(text("c"))
    e.ok(f"{at} {GIT} add -A && {GIT} commit -qm three && {GIT} checkout -q main")
    assert name_of(e, "b") == "b"
    wait_for(lambda: not e.exists("c"), what="c is not on main")
    e.ok(f"{at} {GIT} checkout -q feature && test -z \"$({GIT} status --porcelain)\"")
    assert name_of(e, "b") == "feature" and e.exists("c")
    e.ok(f"{at} sed -i 's/name: .*/name: stashed/' b.yaml && {GIT} stash -q")
    assert name_of(e, "b") == "feature"
    e.ok(f"{at} {GIT} stash pop -q")
    assert name_of(e, "b") == "stashed"
    e.ok(f"{at} {GIT} checkout -q b.yaml && {GIT} checkout -q main && {GIT} mv b.yaml moved.yaml && {GIT} commit -qam moved "
         f"&& {GIT} rebase -q main feature 2>/dev/null && {GIT} log --oneline | wc -l")
    assert e.exists("b")
    e.ok(f"{at} {GIT} fsck --strict 2>&1 | grep -v dangling | grep -i error; true")
    e.ok(f"{GIT} clone -q manifests {e.data}/clone && cd {e.data}/clone && test -f b.yaml -o -f moved.yaml")


def test_git_clone_into_manifests(e: Mounted) -> None:
    source = e.data / "repository"
    source.mkdir()
    (source / "many.yaml").write_text("---\n".join(text(f"g{i}") for i in range(20)))
    subprocess.run(f"{GIT} init -q . && {GIT} add -A && {GIT} commit -qm one", shell=True, cwd=source, check=True)
    e.ok(f"{GIT} clone -q {source} manifests/sub")
    assert all(e.exists(f"g{i}") for i in range(20))
    assert (e.m / "manifests/sub/.git/HEAD").read_text().startswith("ref: ")


def test_many_saves_lose_and_double_nothing(e: Mounted, file: Path) -> None:
    for i in range(100):
        beside = file.with_name("b.yaml~")
        if i % 3 == 0:
            file.write_text(text("b", f"s{i}"))
        elif i % 3 == 1:
            beside.write_text(text("b", f"s{i}"))
            beside.rename(file)
        else:
            file.rename(beside)
            file.write_text(text("b", f"s{i}"))
            beside.unlink()
    assert e.trigger("b")["generation"] == 101
    assert name_of(e, "b") == "s99"


def test_inotify_tells_of_changes_made_here(e: Mounted) -> None:
    watch = subprocess.Popen(["inotifywait", "-m", "--format", "%e %f", str(e.m / "manifests")],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert watch.stdout and watch.stderr
        while "established" not in watch.stderr.readline():
            assert watch.poll() is None
        (e.m / "manifests/b.yaml").write_text(text("b", "seen"))
        assert "b.yaml" in watch.stdout.readline()
    finally:
        watch.kill()
        watch.wait()
