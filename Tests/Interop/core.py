"""The C core with the least around it, built as a release is: in seconds, and without Swift."""

import shutil
import subprocess

from node import ROOT


def built_core(mains, out, libraries):
    """Compiles `mains` of Benchmarks/Cost with the core; returns `out`."""
    sources = [path for path in sorted(ROOT.glob("CSources/**/*.c")) if "CStreamLoad" not in path.parts]
    includes = [f"-I{path}" for path in ROOT.glob("CSources/*/include")]
    options = ["-std=gnu17", "-O2", "-D_GNU_SOURCE", "-w"]
    files = [ROOT / "Benchmarks/Cost" / main for main in mains]
    command = [shutil.which("clang"), *options, *includes, *files, *sources, "-o", out, *libraries, "-lssl", "-lcrypto", "-pthread"]
    subprocess.run(command, check=True)
    return out
