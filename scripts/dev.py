"""What the Makefile's targets do: environment, build, tests, demo, benchmarks. Standard library only.

Every part is announced, timed and reported at the end; a missing tool ends the run with the command that cures it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN_VENV = ROOT / ".venv"


class Stop(Exception):
    """Something is missing or failed and nothing further makes sense; carries what to do about it."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


class Report:
    """Times and outcomes of the parts, and the number of tests that ran."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, float, bool]] = []
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    @contextmanager
    def part(self, name: str, what: str) -> Iterator[None]:
        """Announce a part, and note how long it took and whether it went well."""
        print(f"\n=== {name}: {what}", flush=True)
        start, good = time.monotonic(), False
        try:
            yield
            good = True
        finally:
            self.parts.append((name, time.monotonic() - start, good))

    def count(self, line: str) -> None:
        """Add the numbers of a test runner's summary line (pytest, cargo test, nextest)."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line).strip()
        if not re.match(r"(=* ?\d+ [a-z]+, .* in [\d.]+s|=* ?\d+ passed in [\d.]+s|Summary \[|test result:)", plain):
            return
        names = {"error": "failed", "errors": "failed", "ignored": "skipped", "xfailed": "skipped", "xpassed": "failed"}
        for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?|ignored|xfailed|xpassed)", plain):
            self.counts[names.get(word, word)] += int(number)

    def close(self) -> int:
        """Print the table of times and, if tests ran, their number; the exit status."""
        print("\n=== time")
        for name, seconds, good in self.parts:
            print(f"{name:<22} {seconds:8.1f} s  {'' if good else 'FAILED'}".rstrip())
        print(f"{'all':<22} {sum(seconds for _, seconds, _ in self.parts):8.1f} s")
        bad = [name for name, _, good in self.parts if not good]
        if bad:
            print(f"failed: {', '.join(bad)}")
        if any(self.counts.values()):
            print("total: {passed} passed, {failed} failed, {skipped} skipped".format(**self.counts))
        sys.stdout.flush()
        return 1 if bad else 0


class Project:
    """The targets; each makes what it needs first."""

    def __init__(self, venv: Path) -> None:
        # not resolved: an environment's python is a link, and following it would leave the environment
        self.venv = Path(os.path.abspath(venv))
        self.python = self.venv / "bin" / "python"
        self.report = Report()
        self.variables = dict(os.environ)
        self.variables.pop("PYTHONHOME", None)
        cargo_home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "bin"
        # rustup's folder is often not on the path yet, in the shell that installed it
        path = [str(self.venv / "bin"), os.environ.get("PATH", os.defpath), str(cargo_home)]
        self.variables.update(PATH=os.pathsep.join(path), VIRTUAL_ENV=str(self.venv), PYO3_PYTHON=str(self.python))

    # ---------------------------------------------------------------------------------------------------- processes
    def which(self, program: str) -> str | None:
        """Where a program is, on the path that the parts run with."""
        return shutil.which(program, path=self.variables["PATH"])

    def run(self, *command: str | Path, chatty: bool = False, **variables: str) -> None:
        """Run a command, show its output as it comes, count the tests it reports; raises Stop if it fails.

        What a ``chatty`` command says is shown to people who wait for it at a terminal, elsewhere only if it fails.
        """
        words = [str(word) for word in command]
        kept: list[str] | None = [] if chatty and not sys.stdout.isatty() else None
        print("$ " + " ".join(w.replace(str(ROOT) + "/", "") for w in words), flush=True)
        env = {**self.variables, **variables}
        process = subprocess.Popen(
            words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode(errors="replace")
            if kept is not None:
                kept.append(text)
                continue
            sys.stdout.write(text)
            sys.stdout.flush()
            self.report.count(text)
        if status := process.wait():
            sys.stdout.writelines(kept or ())
            raise Stop(f"'{words[0]}' ended with status {status}", "see the output above")

    def try_part(self, name: str, what: str, *commands: tuple[str | Path, ...], **variables: str) -> None:
        """A part whose failure is noted and does not keep the others from running."""
        try:
            with self.report.part(name, what):
                failures = 0
                for command in commands:
                    try:
                        self.run(*command, **variables)
                    except Stop as stop:
                        print(f"FAILED: {stop}")
                        failures += 1
                if failures:
                    raise Stop(f"{failures} of {len(commands)} commands failed", "see the output above")
        except Stop:
            pass

    # -------------------------------------------------------------------------------------------------- environment
    def environment(self) -> None:
        """A virtual environment with every dependency; nothing is installed that is there already."""
        with self.report.part("environment", f"{self.venv}"):
            if not self.python.exists():
                self.make_venv()
            missing = self.missing_requirements()
            if not missing:
                print("every dependency is there")
                return
            print(f"installing {len(missing)} missing dependencies; torch alone can be 3 GB with its CUDA parts")
            uv = self.which("uv")
            installer = [uv, "pip", "install", "--python", self.python] if uv else [self.python, "-m", "pip", "install"]
            try:
                self.run(*installer, *missing, chatty=True)
            except Stop as stop:
                cure = "check the network and pip's index (pip config list), then run make again: it goes on from there"
                raise Stop(f"installing the dependencies failed ({stop})", cure) from None

    def make_venv(self) -> None:
        """Create the environment with the standard library's venv."""
        print(f"creating it with Python {sys.version.split()[0]} ({sys.executable})")
        made = subprocess.run([sys.executable, "-m", "venv", str(self.venv)], capture_output=True, text=True)
        if made.returncode:
            shutil.rmtree(self.venv, ignore_errors=True)
            raise Stop(
                "Python's venv module cannot create an environment: " + (made.stdout + made.stderr).strip(),
                "Debian, Ubuntu: apt install python3-venv; elsewhere: a Python with ensurepip, or VENV=path",
            )

    def missing_requirements(self) -> list[str]:
        """Requirements of the package and of its development extra that the environment does not satisfy."""
        check = [str(self.python), str(ROOT / "scripts" / "missing.py"), "dev"]
        done = subprocess.run(check, cwd=ROOT, env=self.variables, capture_output=True, text=True)
        if done.returncode:
            raise Stop(f"looking through {self.venv} failed: {done.stderr.strip()}", "remove it and run make again")
        return done.stdout.splitlines()

    # -------------------------------------------------------------------------------------------------------- build
    def build(self) -> None:
        """The environment, then a release build of the core, importable from the environment."""
        self.environment()
        with self.report.part("build", "the Rust core, release build"):
            self.check_toolchain()
            command = [self.python, "-m", "maturin", "develop", "--release"]
            if self.installed_elsewhere():
                # somebody else's tree: use this one by path, and leave that environment as it is
                print(f"{self.venv} holds another fulmen, which stays; this tree is used through PYTHONPATH")
                command.append("--skip-install")
            else:
                # maturin would resolve the dependencies again
                command += ["--uv"] if not (self.venv / "bin" / "pip").exists() and self.which("uv") else []
            self.run(*command, chatty=True)
            old = self.variables.get("PYTHONPATH")
            self.variables["PYTHONPATH"] = os.pathsep.join([str(ROOT / "python")] + ([old] if old else []))
            self.run(
                self.python, "-c", "import fulmen; print('fulmen', fulmen.__version__, 'from', fulmen.__path__[0])"
            )

    def installed_elsewhere(self) -> bool:
        """Whether the environment has a fulmen that is not this tree's."""
        code = "import importlib.util as u; s = u.find_spec('fulmen'); print(s.origin if s and s.origin else '')"
        done = subprocess.run(
            [str(self.python), "-P" if sys.version_info >= (3, 11) else "-s", "-c", code],
            cwd=self.venv, env=self.variables, capture_output=True, text=True,
        )  # fmt: skip
        found = done.stdout.strip()
        return bool(found) and ROOT not in Path(found).resolve().parents

    def check_toolchain(self) -> None:
        """A Rust toolchain that is new enough, and a C compiler as its linker."""
        if not self.which("cargo"):
            raise Stop(
                "cargo, the Rust toolchain's build tool, is not on the path",
                "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh   (or your system's package rustup)",
            )
        wanted = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
        said = subprocess.run(["rustc", "--version"], env=self.variables, capture_output=True, text=True).stdout
        have = re.match(r"rustc ([\d.]+)", said)
        if wanted and have and _numbers(have[1]) < _numbers(wanted[1]):
            raise Stop(f"Rust {wanted[1]} or newer is needed, this is {have[1]}", "rustup update stable")
        if not any(self.which(name) for name in ("cc", "gcc", "clang")):
            raise Stop(
                "no C compiler found (cc, gcc or clang), which Rust needs as its linker",
                "Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc; macOS: xcode-select --install",
            )

    # -------------------------------------------------------------------------------------------------------- checks
    def lint(self) -> None:
        """Format, lints and types of both languages."""
        self.check_toolchain()
        components = [name for name in ("cargo-fmt", "cargo-clippy") if not self.which(name)]
        if components:
            raise Stop(f"{' and '.join(components)} not found", "rustup component add rustfmt clippy")
        self.try_part("rust lint", "format, clippy", *RUST_LINT)
        python = [(self.python, "-m", *words) for words in PYTHON_LINT]
        self.try_part("python lint", "ruff, mypy", *python)

    def rust_tests(self) -> None:
        """Tests of the Rust crates."""
        runner = ("cargo", "nextest", "run", "--workspace", "--no-tests=warn")
        if not self.which("cargo-nextest"):
            runner = ("cargo", "test", "--workspace", "--all-targets")
        self.try_part("rust tests", runner[1], runner, ("cargo", "test", "--workspace", "--doc", "--quiet"))

    def pytest(self, name: str, what: str, *words: str) -> None:
        """One run of pytest with the thread counts that the tests expect."""
        command = (self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words)
        self.try_part(name, what, command, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

    # ------------------------------------------------------------------------------------------------------- targets
    def target_env(self) -> None:
        """Only the environment."""
        self.environment()

    def target_build(self) -> None:
        """Environment and core."""
        self.build()

    def target_lint(self) -> None:
        """Environment, core, lints."""
        self.build()
        self.lint()

    def target_format(self) -> None:
        """Rewrite the sources in the project's format."""
        self.environment()
        with self.report.part("format", "cargo fmt, ruff"):
            self.run("cargo", "fmt", "--all")
            self.run(self.python, "-m", "ruff", "check", "--fix-only", "--quiet", ".")
            self.run(self.python, "-m", "ruff", "format", ".")

    def target_test(self) -> None:
        """Every check there is."""
        self.build()
        self.lint()
        self.rust_tests()
        self.pytest("python tests", "unit, parity, contract", "-n", "2", "-m", "not slow and not distributed")
        self.pytest("slow tests", "golden traces, measurements, several processes", "-m", "slow or distributed")

    def target_test_fast(self) -> None:
        """Python tests without the slow ones."""
        self.build()
        self.pytest("python tests", "unit, parity, contract", "-n", "2", "-m", "not slow and not distributed")

    def target_test_resume(self) -> None:
        """Every way to stop a training at every step, and to go on from what it left (480 pairs of runs)."""
        self.build()
        matrix = (
            self.python,
            "-W",
            "ignore",
            ROOT / "tests" / "faults" / "resume_matrix.py",
            "--jobs",
            str(os.cpu_count() or 1),
        )
        self.try_part("resume", "the matrix of resumed runs", matrix, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

    def target_test_sanitize(self) -> None:
        """The core's unsafe code in Miri, which knows every access that must not be."""
        if not self.which("rustup"):
            raise Stop("Miri comes with rustup", "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh")
        have = subprocess.run(
            ["rustup", "+nightly", "component", "list", "--installed"],
            env=self.variables, capture_output=True, text=True,
        )  # fmt: skip
        if have.returncode or "miri" not in have.stdout or "rust-src" not in have.stdout:
            raise Stop(
                "the nightly toolchain with Miri is missing", "rustup toolchain install nightly -c miri,rust-src"
            )
        # threads that wait for work when a test ends are no leak; proptest wants to know the working directory
        # addresses that were numbers in between (crossbeam does that in its queues) may be used
        flags = "-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-permissive-provenance"
        command = ("cargo", "+nightly", "miri", "test", "-p", "fulmen-core", "--test", "prefetch")
        self.try_part("sanitizer", "the core's prefetch tests under Miri", command, MIRIFLAGS=flags)

    def target_demo(self) -> None:
        """Train the example, and say where picture and report are."""
        self.build()
        with self.report.part("demo", "examples/digits.py: train, test, predict, report"):
            self.run(self.python, ROOT / "examples" / "digits.py", "--out", ROOT / "demo_out")

    def target_bench(self) -> None:
        """Benchmarks, interleaved with the hand-written loop and with Lightning."""
        self.build()
        with self.report.part("bench", "cost of a step, of a batch, of the import"):
            self.run(self.python, ROOT / "benches" / "bench_step.py")
            self.run(self.python, ROOT / "benches" / "bench_loggers.py")
            self.run(self.python, ROOT / "benches" / "bench_prefetch.py")
            self.run(self.python, ROOT / "benches" / "bench_workers.py")
            self.run(self.python, ROOT / "benches" / "bench_import.py")

    def target_docs(self) -> None:
        """API pages of the crates, and every example of the pages run."""
        self.build()
        self.try_part(
            "rust docs", "cargo doc", ("cargo", "doc", "--workspace", "--no-deps", "--document-private-items")
        )
        self.pytest("examples", "every Python example of README and docs/", "tests/contract/test_docs.py")
        print(f"\nRust API: {ROOT / 'target' / 'doc' / 'fulmen_core' / 'index.html'}; pages: docs/")

    def target_wheel(self) -> None:
        """A release wheel."""
        self.environment()
        with self.report.part("wheel", "maturin build"):
            self.check_toolchain()
            self.run(self.python, "-m", "maturin", "build", "--release", "--out", ROOT / "dist")

    def target_clean(self) -> None:
        """Remove what the targets made; an environment that was named with VENV= is not ours to remove."""
        folders = ["target", "dist", "build", "demo_out", "lightning_logs", "checkpoints", ".venv"]
        folders += [".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".benchmarks"]
        for path in [ROOT / name for name in folders] + list((ROOT / "python").rglob("*.so")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
        for top in ("python", "tests", "benches", "examples", "scripts"):
            for cache in (ROOT / top).rglob("__pycache__"):
                shutil.rmtree(cache, ignore_errors=True)


RUST_LINT: list[tuple[str, ...]] = [
    ("cargo", "fmt", "--all", "--check"),
    ("cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"),
]
PYTHON_LINT: list[tuple[str, ...]] = [
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy", "--strict", "python/fulmen"),
]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def main() -> int:
    """Run one target and print what it took."""
    targets = [name.removeprefix("target_").replace("_", "-") for name in dir(Project) if name.startswith("target_")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=OWN_VENV, help="environment to use, made if it is not there")
    parser.add_argument("target", choices=targets)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    project = Project(arguments.venv)
    try:
        getattr(project, "target_" + arguments.target.replace("-", "_"))()
    except Stop as stop:
        sys.stdout.flush()
        print(f"\nerror: {stop}\ncure:  {stop.cure}", file=sys.stderr, flush=True)
        project.report.close()
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return project.report.close()


if __name__ == "__main__":
    sys.exit(main())
