import io

from cir.commands.work_progress import WorkProgress


def test_where_nobody_looks_on_a_line_comes_now_and_then_and_at_the_end() -> None:
    now = [0.0]
    out = io.StringIO()
    progress = WorkProgress(file=out, clock=lambda: now[0])
    progress.start("epochs", 3)
    for done, time, note in ((1, 1.0, "early"), (2, 11.0, "later"), (3, 12.0, "")):
        now[0] = time
        progress.advance(done, note)
    progress.stop()
    assert out.getvalue() == "epochs: 2/3, later\nepochs: 3/3\n"


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    progress = WorkProgress(file=out)
    progress.start("images", 2)
    progress.advance(2, "1 without features")
    progress.stop()
    assert "images" in out.getvalue()
    assert "2/2" in out.getvalue()


def test_quiet_says_nothing() -> None:
    out = io.StringIO()
    progress = WorkProgress(quiet=True, file=out)
    progress.start("images", 1)
    progress.advance(1)
    progress.stop()
    assert out.getvalue() == ""
