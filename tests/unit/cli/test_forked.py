"""Programs that are forked from threads: each thread gets the exit code of its own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from xbtmigrate.cli.forked import ForkedProgram, load_for
from xbtmigrate.errors import ConfigError


def test_each_exit_code_arrives_while_others_start():
    load_for("plan")
    words = [["--version"], ["plan", "--nonsense"]] * 40

    def run(of: list[str]) -> int:
        return ForkedProgram.start(of, os.environ).wait()[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, words)) == [0, ConfigError.exit_code] * 40
