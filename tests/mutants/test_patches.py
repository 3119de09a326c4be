"""The planted bugs fit the code as it is; whether they are caught is tried by ``make mutants``."""

import shutil
import subprocess

import pytest

from tests.mutants.__main__ import ROOT, Mutant, all_mutants

MUTANTS = all_mutants()


def test_there_are_ten_and_more() -> None:
    assert len(MUTANTS) >= 10
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_patch_fits_and_names_tests_that_exist(mutant: Mutant) -> None:
    assert all((ROOT / test).exists() for test in mutant.tests)
    if shutil.which("patch") is None:
        pytest.skip("there is no patch here")
    command = ["patch", "-p1", "--dry-run", "--fuzz=3", "-i", str(mutant.path)]
    fits = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert fits.returncode == 0, fits.stdout
