"""Asks the server of llama.cpp as a chat program does: messages, and text. In a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import json, sys, urllib.request
import xllamacpp as llama

asked = json.load(open(sys.argv[1]))
settings = llama.CommonParams()
settings.model.path, settings.n_ctx, settings.n_parallel = asked["model"], 1024, 1
settings.n_gpu_layers, settings.warmup, settings.cpuparams.n_threads = 0, False, 1
settings.cache_type_k = settings.cache_type_v = llama.ggml_type.GGML_TYPE_F32
server = llama.Server(settings)

def ask(path, body):
    kind = {"Content-Type": "application/json"}
    call = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(), kind)
    return json.load(urllib.request.urlopen(call))

told = {"chats": [], "texts": []}
for message in asked["messages"]:
    messages = [{"role": "user", "content": message}]
    prompt = ask("/apply-template", {"messages": messages})["prompt"]
    tokens = ask("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
    body = {"messages": messages, "temperature": 0, "max_tokens": asked["count"], "cache_prompt": False}
    answer = ask("/v1/chat/completions", body)
    told["chats"].append({"prompt": prompt, "tokens": tokens, "answer": answer["choices"][0]["message"]["content"]})
for text in asked["texts"]:
    body = {"prompt": text, "n_predict": asked["count"], "temperature": 0, "return_tokens": True, "cache_prompt": False}
    told["texts"].append(ask("/completion", body)["tokens"])
json.dump(told, open(sys.argv[2], "w"))
"""


def ask_server(model: Path, messages: list[str], texts: list[str], count: int) -> dict:
    """Return the prompt, its tokens and the answer of each chat message, and the tokens that follow each plain text."""
    with tempfile.TemporaryDirectory() as scratch:
        script, asked, told = (Path(scratch) / name for name in ("ask.py", "asked.json", "told.json"))
        script.write_text(SCRIPT)
        asked.write_text(json.dumps({"model": str(model), "messages": messages, "texts": texts, "count": count}))
        done = subprocess.run(
            [sys.executable, str(script), str(asked), str(told)], capture_output=True, text=True, check=False
        )
        assert told.is_file(), done.stderr[-2000:]
        return json.loads(told.read_text())
