"""`openai:MODEL` against a server on loopback that fails, stalls, limits, refuses and lies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images_server import Answer, Log, fault, good, image_of, serving

from evalkit.core.errors import ConfigError, NetworkError
from evalkit.core.run import RunFolder
from generators.adapters import servers
from generators.adapters.access import Access
from generators.adapters.budget import Budget
from generators.base import Generator, Request, Sample, resolve_settings
from generators.catalog import load_generator
from generators.errors import CapReachedError, MissingKeyError, ServerError

KEY = "sk-secret-of-the-test"
SIXTEEN = 16


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds instead of seconds, and have a key."""
    monkeypatch.setattr(servers, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def model(log: Log, **access: Any) -> Generator:
    chosen: dict[str, Any] = {"base_url": log.address, "timeout_s": 2.0, **access}
    return load_generator("openai:painter", access=Access(**chosen))


def ask(generator: Generator, prompts: list[str], options: str | None = None) -> list[Sample]:
    settings = resolve_settings(generator.spec, options=options)
    requests = [Request(prompt=p, seed=2**40 + n, index=n) for n, p in enumerate(prompts)]
    return generator.generate(requests, settings)


def test_a_prompt_becomes_the_image_of_the_answer() -> None:
    with serving(lambda prompt, n: good(prompt)) as log:
        generator = model(log)
        first, second = ask(generator, ["a red circle", "a blue square"], "size=8x8,quality=low")
    np.testing.assert_array_equal(first.image, image_of("a red circle"))
    np.testing.assert_array_equal(second.image, image_of("a blue square"))
    body = next(body for body in log.bodies if body["prompt"] == "a red circle")
    assert body == {
        "model": "painter", "prompt": "a red circle", "n": 1, "response_format": "b64_json",
        "seed": 2**40 % 2**31, "size": "8x8", "quality": "low",
    }  # fmt: skip
    assert log.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert generator.spec.weights == f"served at {log.address}"


def test_options_are_sent_as_their_types() -> None:
    with serving(lambda prompt, n: good(prompt)) as log:
        settings = resolve_settings(
            model(log).spec,
            options=["num_inference_steps=4,guidance_scale=2.5", "size=8x8", "seed=false"],
        )
        model(log).generate([Request(prompt="x", seed=1)], settings)
    assert "seed" not in log.bodies[0]
    assert log.bodies[0]["num_inference_steps"] == 4
    assert (log.bodies[0]["guidance_scale"], log.bodies[0]["size"]) == (2.5, "8x8")


def test_an_address_of_an_image_is_fetched_without_the_key() -> None:
    def link(prompt: str, n: int) -> Answer:
        return 200, {"data": [{"url": log.address.replace("/v1", "/picture.png")}]}, {}

    with serving(link) as log:
        (sample,) = ask(model(log), ["x"], "response_format=url")
    np.testing.assert_array_equal(sample.image, image_of("/picture.png"))
    assert "Authorization" not in log.fetched[0]


def chaos(prompt: str, n: int) -> Answer:
    """Behave by the prompt's number: a third of the kinds never gives an image."""
    kind = int(prompt.split()[-1]) % 10
    if kind == 0:
        return fault(500, "out of memory") if n < 2 else good(prompt)
    if kind == 1:
        time.sleep(2.5 if n == 0 else 0)  # longer than the client waits
        return good(prompt)
    if kind == 2:
        return fault(429, "slow down", Retry_After="0.05") if n == 0 else good(prompt)
    if kind == 3:
        return fault(400, "Your request was rejected by our safety system.", "moderation_blocked")
    if kind == 4:
        junk = [b"<html>", {"data": []}, {"data": [{"b64_json": "no!"}]}, {"data": [{"url": "x:"}]}]
        return 200, junk[n % 4], {}
    if kind == 5:
        return 200, {"data": [{"b64_json": "aGVsbG8="}]}, {}  # not an image
    if kind == 6:
        return fault(400, "the prompt is too long", "invalid_prompt")
    return good(prompt)


def test_200_prompts_at_16_at_once_end_as_an_image_or_a_reason() -> None:
    prompts = [f"prompt {number}" for number in range(200)]
    with serving(chaos) as log:
        generator = model(log, concurrency=SIXTEEN, retries=3, timeout_s=1.5, max_requests=700)
        samples = ask(generator, prompts)
    expected = {3: "refused", 4: "failed", 5: "failed", 6: "failed"}
    for number, sample in enumerate(samples):
        assert sample.status == expected.get(number % 10, "ok"), (number, sample.reason)
        assert (sample.image is None) == (sample.status != "ok")
        assert sample.reason or sample.image is not None
        if sample.image is not None:
            np.testing.assert_array_equal(sample.image, image_of(prompts[number]))
    reasons = {number: samples[number].reason for number in (3, 4, 5, 6)}
    assert reasons[3].startswith("refused by the server: 400 Your request was rejected")
    assert reasons[4].startswith(("the answer has no image", "the answer is no image"))
    assert reasons[4].endswith(", after 4 tries")
    assert reasons[5].startswith("the answer is no image")
    assert reasons[5].endswith("after 4 tries")
    assert reasons[6] == "not accepted by the server: 400 the prompt is too long"
    assert log.seen["prompt 6"] == log.seen["prompt 3"] == 1
    assert len(log.bodies) <= generator.budget.used <= 700


def test_no_more_than_16_are_asked_at_once() -> None:
    def slowly(prompt: str, n: int) -> Answer:
        time.sleep(0.2)  # long enough to overlap on a busy machine
        return good(prompt)

    with serving(slowly) as log:
        ask(model(log, concurrency=SIXTEEN, timeout_s=60), [f"prompt {n}" for n in range(200)])
    assert 2 < log.most_at_once <= SIXTEEN


def test_the_cap_is_never_exceeded() -> None:
    with serving(lambda prompt, n: fault(500, "no")) as log:
        generator = model(log, concurrency=SIXTEEN, retries=50, max_requests=100)
        samples = ask(generator, [f"prompt {n}" for n in range(40)])
        assert len(log.bodies) == 100
        assert {sample.status for sample in samples} == {"failed"}
        assert min(log.seen.values()) >= 1  # each prompt had its first try
        assert any("the cap allows no further try" in sample.reason for sample in samples)
        with pytest.raises(CapReachedError, match="100 requests leaves 0 for a batch of 1") as no:
            ask(generator, ["one more"])
        assert len(log.bodies) == 100
    assert "Finished images are kept" in str(no.value)


def test_a_cost_is_a_number_of_requests() -> None:
    with serving(lambda prompt, n: good(prompt)) as log:
        generator = model(log, price=0.04, max_cost=0.2)
        ask(generator, ["a", "b", "c"])
        with pytest.raises(CapReachedError, match="cap of 5 requests leaves 2"):
            ask(generator, ["d", "e", "f"])
        assert len(ask(generator, ["d", "e"])) == 2
    assert len(log.bodies) == 5


def test_requests_are_spaced_over_the_minute() -> None:
    with serving(lambda prompt, n: good(prompt)) as log:
        ask(model(log, concurrency=8, requests_per_minute=1200), [f"p {n}" for n in range(9)])
    gaps = np.diff(sorted(log.times))
    assert sorted(log.times)[-1] - sorted(log.times)[0] >= 8 * 0.05 * 0.9
    assert gaps.max() < 2


def test_a_limit_holds_all_requests_back() -> None:
    def limited(prompt: str, n: int) -> Answer:
        return (
            fault(429, "slow", Retry_After="0.4")
            if log.bodies[0] is log.bodies[-1]
            else good(prompt)
        )

    with serving(limited) as log:
        samples = ask(model(log, concurrency=1), ["a", "b"])
    assert [sample.status for sample in samples] == ["ok", "ok"]
    assert log.times[1] - log.times[0] >= 0.35


def test_what_the_server_revised_is_noted() -> None:
    def revised(prompt: str, n: int) -> Answer:
        status, body, headers = good(prompt)
        body["data"][0]["revised_prompt"] = "a very red\ncircle"
        return status, body, headers

    with serving(revised) as log:
        (sample,) = ask(model(log), ["a red circle"])
    assert sample.notes == ("prompt revised by the server: a very red circle",)


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "invalid_api_key"), (404, "model_not_found"), (429, "insufficient_quota")],
)
def test_a_wrong_key_model_or_account_stops_the_run(status: int, code: str) -> None:
    with serving(lambda prompt, n: fault(status, f"Wrong: {KEY}", code)) as log:
        with pytest.raises(ServerError, match=rf"{status} Wrong: \(the key\)") as caught:
            ask(model(log, concurrency=1), [f"p {n}" for n in range(20)])
        assert len(log.bodies) <= 2
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_redirect_is_not_followed() -> None:
    away = {"Location": "http://127.0.0.1:9/"}
    with serving(lambda prompt, n: (307, {}, away)) as log, pytest.raises(ServerError, match="307"):
        ask(model(log), ["x"])


def test_a_server_that_goes_away_leaves_the_batch_undone() -> None:
    with serving(lambda prompt, n: good(prompt)) as log:
        generator = model(log, retries=1)
    with pytest.raises(NetworkError, match=r"unreachable .*run the same command again"):
        ask(generator, ["a", "b"])
    with pytest.raises(NetworkError, match="No network: can't connect to 127"):
        model(log)


def test_what_is_missing_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"say how much may be asked .* --max-requests N"):
        load_generator("openai:m", access=Access(base_url="https://images.example.org/v1"))
    with pytest.raises(ConfigError, match="belong together"):
        load_generator("openai:m", access=Access(max_cost=3.0))
    with pytest.raises(ConfigError, match="is no address"):
        load_generator("openai:m", access=Access(base_url="file:///etc/passwd"))
    with pytest.raises(ConfigError, match="has a name, password or query") as caught:
        load_generator("openai:m", access=Access(base_url="http://me:secret@localhost/v1"))
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="--base-url, --max-requests do not apply"):
        load_generator("glide:tiny", access=Access(base_url="http://localhost", max_requests=3))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError, match="needs a key: set OPENAI_API_KEY"):
        load_generator("openai:m", access=Access(max_requests=3))


def test_a_budget_gives_back_what_a_batch_did_not_take() -> None:
    budget = Budget(3)
    budget.reserve(3)
    assert budget.take(first=True)
    assert not budget.take(first=False)
    budget.release(2)
    assert budget.take(first=False)
    budget.reserve(1)
    with pytest.raises(CapReachedError):
        budget.reserve(1)


def test_a_run_resumes_and_never_writes_the_key(tmp_path: Path) -> None:
    from evalkit.cli import app

    gone = False

    def behave(prompt: str, n: int) -> Answer:
        return fault(401, "no") if gone else good(prompt)

    with serving(behave) as log:
        command = [
            "generate", "--model", "openai:painter", "--base-url", log.address, "--batch-size", "2",
            "--device", "cpu", "--out", str(tmp_path / "run"),
            *(f"--prompt=p {n}" for n in range(6)),
        ]  # fmt: skip
        with pytest.raises(CapReachedError):
            app([*command, "--max-requests", "3"], standalone_mode=False)
        assert len(RunFolder.read(tmp_path / "run").rows()) == 2
        gone = True
        with pytest.raises(ServerError):
            app([*command, "--concurrency", "1"], standalone_mode=False)
        assert len(RunFolder.read(tmp_path / "run").rows()) == 2
        gone = False
        app([*command, "--max-requests", "4"], standalone_mode=False)
    rows = RunFolder.read(tmp_path / "run").rows()
    assert [row.status for row in rows] == ["ok"] * 6
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
