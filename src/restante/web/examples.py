"""The example of the documentation: a task, from its POST to its answer. All of it is invented."""

from __future__ import annotations

from typing import Final

from restante.core.answer import Annotation
from restante.web import wire

TASK_ID: Final = "11201415-0042-0613-0000-5d0c1be9a7f3"
TASK: Final = {
    "user_prompt": "which Alpine towns are easy to reach by train",
    "model_name": "gemini-2.5-flash",
    "system_message": "answer like a travel agent",
    "message_chain": [{"role": "user", "message": "Hi"}, {"role": "ai", "message": "Hello, where to?"}],
    "web_search": True,
    "tag": "run-17",
    "pingback_url": "https://hooks.example.org/ping?id=$id&tag=$tag",
}
LIVE_TASK: Final = {
    "user_prompt": "name one Alpine lake",
    "model_name": "gemini-2.5-flash",
    "temperature": 1,
    "tag": "l-1",
}

_TEXT: Final = "Take the train to **Chur**: every half hour from Zürich."
ANSWER: Final = wire.AnswerResult(
    model_name="gemini-2.5-flash",
    input_tokens=41,
    output_tokens=255,
    reasoning_tokens=0,
    web_search=True,
    money_spent=0.0356498,
    datetime="2026-11-20 14:15:31 +00:00",
    items=[
        wire.MessageItem(
            [
                wire.MessageSection(
                    "text",
                    _TEXT,
                    [
                        Annotation(
                            title="trains.example.org",
                            url="https://redirect.example.org/r/8f3a",
                            direct_url="https://trains.example.org/chur",
                            start_index=30,
                            end_index=len(_TEXT),
                            text=_TEXT[30:],
                        )
                    ],
                )
            ]
        )
    ],
    fan_out_queries=["train connections Alpine towns"],
)
LIVE_ANSWER: Final = wire.AnswerResult(
    model_name="gemini-2.5-flash",
    input_tokens=15,
    output_tokens=4,
    reasoning_tokens=0,
    web_search=False,
    money_spent=0.0000145,
    datetime="2026-11-20 14:20:44 +00:00",
    items=[wire.MessageItem([wire.MessageSection("text", "Lake Geneva.", None)])],
    fan_out_queries=None,
)
READY: Final = wire.ReadyResult(
    id=TASK_ID,
    se=wire.PLATFORM,
    function=wire.FUNCTION,
    date_posted="2026-11-20 14:15:08 +00:00",
    tag="run-17",
    endpoint="/" + "/".join((*wire.FAMILY_PATH, "task_get", TASK_ID)),
)
MODELS: Final = (
    wire.ModelResult("gemini-2.5-flash", reasoning=True, web_search_supported=True, task_post_supported=True),
    wire.ModelResult("gemini-2.5-flash-lite", reasoning=True, web_search_supported=True, task_post_supported=True),
)
