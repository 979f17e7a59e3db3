"""Locust against Headrace, or anything else that speaks OpenAI's API: streamed chats.

``locust -f loadtests/locustfile.py --host http://127.0.0.1:8080``; the environment says the rest:
``API_KEY``, ``MODEL``, and ``MAX_TOKENS`` of an answer (30). A row tells when the status came, one
the first token, one the end; what is not answered to its end has failed.
"""

import json
import os
from time import perf_counter

from locust import HttpUser, task

URL = "/v1/chat/completions"


class Chat(HttpUser):  # type: ignore[misc]  # Locust is in an environment of its own
    """Somebody who asks again as soon as the answer is there."""

    def on_start(self) -> None:
        """Prepare what is the same in all requests."""
        self.headers = {"Authorization": f"Bearer {os.environ.get('API_KEY', '')}"}
        self.body = {
            "model": os.environ.get("MODEL", "SmolLM2-135M-Instruct"),
            "messages": [{"role": "user", "content": "Tell me a story."}],
            "max_tokens": int(os.environ.get("MAX_TOKENS", "30")),
            "stream": True,
        }

    @task  # type: ignore[untyped-decorator]
    def chat(self) -> None:
        """Ask, and read the stream to its end."""
        began, first, last = perf_counter(), 0.0, b""
        asked = {"json": self.body, "headers": self.headers, "stream": True}
        with self.client.post(URL, **asked, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            for line in response.iter_lines():
                last = line or last
                if not first and line.startswith(b"data: {") and _has_text(line):
                    first = perf_counter() - began
            if last != b"data: [DONE]" or not first:
                response.failure("the stream was cut off")
                return
            response.success()
        self._tell("first token", first)
        self._tell("whole answer", perf_counter() - began)

    def _tell(self, name: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type="SSE", name=name, response_time=seconds * 1e3, response_length=0,
            exception=None, context={},
        )  # fmt: skip


def _has_text(line: bytes) -> bool:
    choices = json.loads(line[6:]).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))
