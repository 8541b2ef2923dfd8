"""The browser tests' own tools: servers that come up and go, and a chromium that can reach nothing else."""

import sys

import pytest

from tests.browser.tools import answers, find_chromium, free_port, serve

pytestmark = pytest.mark.browser


def test_servers_and_what_they_started_end_with_the_block(tmp_path):
    port, port_of_child = free_port(), free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
    both = f"import subprocess\nsubprocess.Popen({[*command, str(port_of_child)]})\nsubprocess.run({[*command, str(port)]})\n"
    with serve([sys.executable, "-c", both], f"http://127.0.0.1:{port_of_child}/", tmp_path / "log", tmp_path) as url:
        assert answers(url)
    assert not answers(f"http://127.0.0.1:{port}/") and not answers(url)


def test_a_server_that_does_not_come_up_shows_what_it_said(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with pytest.raises(pytest.fail.Exception, match=r"(?s)ended with status 1.*no such port"):
        with serve(command, f"http://127.0.0.1:{free_port()}/", tmp_path / "log", tmp_path):
            pass


def test_chromium_is_looked_for_where_the_variable_says(monkeypatch, tmp_path):
    named = tmp_path / "my-chromium"
    named.write_text("#!/bin/sh\n")
    named.chmod(0o755)
    monkeypatch.setenv("SPIDER_TEST_CHROMIUM", str(named))
    assert find_chromium() == str(named)
    monkeypatch.delenv("SPIDER_TEST_CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() is None


def test_a_page_reaches_this_machine_and_nothing_else(page, tmp_path):
    (tmp_path / "index.html").write_text("<h1>here</h1>")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with serve(command, f"http://127.0.0.1:{port}/", tmp_path / "log", tmp_path) as url:
        page.goto(url)
        assert page.inner_text("h1") == "here"
        with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
            page.goto("http://example.org/")
