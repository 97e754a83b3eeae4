"""What the fuzzer begins with: one honest input of every kind, and the words of which the formats are made."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.fuzz.given import ID

_TASK: Final[dict[str, Any]] = {
    "user_prompt": "hi",
    "model_name": "gemini-2.5-flash",
    "max_output_tokens": 1024,
    "temperature": 1.3,
    "top_p": 0.9,
    "web_search": True,
    "use_reasoning": False,
    "system_message": "be brief",
    "message_chain": [{"role": "user", "message": "a"}, {"role": "ai", "message": "b"}],
    "tag": "t",
    "postback_url": "https://hooks.example.org:8080/p?id=$id&tag=$tag",
    "pingback_url": "http://93.184.216.34/x#y",
}
_SHORT: Final = {"user_prompt": "hi", "model_name": "plain"}
_GEMINI: Final = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [{"text": "hm", "thought": True}, {"text": "Zürich is "}, {"text": "nice. 🚆 yes"}],
            },
            "finishReason": "STOP",
            "groundingMetadata": {
                "webSearchQueries": ["zurich", ""],
                "groundingChunks": [{"web": {"uri": "https://a.example/", "title": "a"}}, {"web": None}, None],
                "groundingSupports": [
                    {
                        "segment": {"startIndex": 0, "endIndex": 11, "partIndex": 1, "text": "Zürich is "},
                        "groundingChunkIndices": [0, 1, -1],
                    },
                    {"segment": {"endIndex": 5}, "groundingChunkIndices": [0]},
                ],
                "searchEntryPoint": {"renderedContent": "<div>"},
            },
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 9,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 1,
        "billedToolCalls": [{"tool": "GOOGLE_SEARCH_WEB", "successfulToolCallCount": 1}],
    },
    "modelVersion": "gemini-2.5-flash",
}
_BLOCKED: Final = {"promptFeedback": {"blockReason": "SAFETY"}}
_OPENAI: Final = {
    "choices": [
        {"message": {"role": "assistant", "content": "hello", "reasoning_content": "hm"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 1}},
}
_FAULT: Final = {
    "error": {
        "status": "RESOURCE_EXHAUSTED",
        "message": "quota",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"},
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [
                    {"quotaMetric": "g/requests", "quotaId": "GenerateRequestsPerMinutePerProject", "quotaValue": "10"},
                    {"quotaMetric": "g/input_token_count", "quotaId": "TokensPerMinute", "quotaValue": 1000},
                    {"quotaMetric": "g/search", "quotaId": "SearchPerDay", "quotaValue": ""},
                ],
            },
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
        ],
    }
}
_CONTEXT: Final = {
    "error": {"type": "exceed_context_size_error", "message": "m", "n_prompt_tokens": 9, "n_ctx": 8, "code": 400}
}
_OPERATION: Final = {
    "name": "batches/abc",
    "metadata": {"state": "BATCH_STATE_RUNNING", "displayName": "x", "output": {"responsesFile": "files/a/../b"}},
    "done": True,
    "response": {"inlinedResponses": {"inlinedResponses": [{"key": "k", "response": _BLOCKED}]}},
    "error": {"code": 3, "message": "m"},
}


def _kind(number: int, body: bytes | Any) -> bytes:
    return bytes([number]) + (body if isinstance(body, bytes) else json.dumps(body).encode())


def seeds(target: str) -> list[bytes]:
    """Honest inputs of a target; the first byte is the kind."""
    if target == "wire":
        bodies: list[Any] = [[_TASK], [_SHORT, _TASK, {"x": 1}, None], [_SHORT] * 3, [], b"", b"[1e400, NaN]"]
        posted = [_kind(number, body) for number in (0, 1, 2, 3, 4, 5) for body in bodies]
        recorded = [
            _kind(6, [{"id": ID}]),
            _kind(7, [{"datetime_from": "2026-11-20 00:00:00 +00:00", "datetime_to": "2026-11-20 23:00:00 +00:00"}]),
            _kind(8, [{"limit": 10, "offset": 5, "filtered_function": "pingback_url"}]),
            _kind(9, b"Basic c29tZWJvZHk6cmlnaHQ="),
        ]
        return posted + recorded
    if target in ("webhook",):
        urls = [
            "https://hooks.example.org:8080/p?id=$id&tag=$tag#a\nmy tag/%",
            "http://127.0.0.1/",
            "http://0x7f.1/\n",
            "http://[::ffff:10.0.0.1]:80/x",
            "http://[fe80::1%25eth0]/",
            "HTTPS://bücher.example/ü?ü=%zz",
            "http://１２７.0.0.1/",
            "http://127。0。0。1/",
            "http://user@host/",
            "https://a.example:443/\\@b.example/",
        ]
        return [_kind(kind, url.encode()) for url in urls for kind in (0, 2)] + [
            _kind(3, b"10.0.0.0/8,*.svc.cluster.local,127.0.0.1\nhost")
        ]
    if target == "suffix":
        bodies = [[_TASK], [{"x": {"a": [1, 1.23456, None, True, "<&\u0001>"], "1 b": {}}}], [{"": [[[[{}]]]]}]]
        return [
            bytes([kind]) + b"\n" + json.dumps(body).encode() for kind in (0, 1, 4, 5, 6, 7, 13) for body in bodies
        ] + [bytes([0x80]) + ID.encode() + b"\n", bytes([0x80]) + b"11221200/../x.ai\n"]
    return [
        _kind(0, _GEMINI),
        _kind(0, _BLOCKED),
        _kind(1, _OPENAI),
        _kind(2, b"\x1d120\n" + json.dumps(_FAULT).encode()),
        _kind(2, b"\x00Wed, 21 Oct 2026 07:28:00 GMT\n" + json.dumps(_FAULT).encode()),
        _kind(3, b"5\n" + json.dumps(_CONTEXT).encode()),
        _kind(4, {"models": [{"name": "models/x", "thinking": True}], "nextPageToken": "n", "data": [{"id": "a"}]}),
        _kind(5, _GEMINI),
        _kind(6, {"key": "k", "response": _GEMINI}),
        _kind(6, {"key": "k", "error": {"code": 13, "message": "m"}}),
        _kind(7, _OPERATION),
        _kind(8, b"Wed, 21 Oct 2026 07:28:00 +0200\nx"),
    ]


#: Words that a change of single bytes hardly makes.
WORDS: Final = (
    *(f'"{name}"' for name in _TASK),
    *("null", "true", "false", "NaN", "1e400", "-0", "\\\\u0000", "\\\\ud83d", "\\\\ude00", "$id", "$tag", "[[[["),
    *("http://", "https://", "127.0.0.1", "[::1]", "[::ffff:", "0x7f", "%00", "@", "xn--", ".ai", ".xml", "task_get"),
    *('"candidates"', '"content"', '"parts"', '"text"', '"thought"', '"groundingMetadata"', '"groundingSupports"'),
    *('"segment"', '"startIndex"', '"endIndex"', '"partIndex"', '"usageMetadata"', '"finishReason"', '"choices"'),
    *('"message"', '"usage"', '"completion_tokens"', '"error"', '"details"', '"@type"', "google.rpc.RetryInfo"),
    *('"retryDelay"', "PerMinute", "PerDay", '"violations"', '"quotaValue"', '"reason"', '"response"', '"done"'),
    *('"datetime_from"', '"datetime_to"', '"limit"', '"offset"', '"id"', "2026-11-20 00:00:00 +00:00", "Basic "),
)


def dictionary() -> str:
    """The words as libFuzzer reads them."""
    quoted = (word.replace('"', '\\"') for word in WORDS)
    return "".join(f'"{word}"\n' for word in quoted)
