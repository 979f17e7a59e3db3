"""Ask the demo for an answer that shows every gap, and print it as it comes."""

import json
from pathlib import Path

from openai import OpenAI

info = json.loads(Path("var/demo/info.json").read_text())
client = OpenAI(base_url=info["base_url"], api_key=info["api_key"])
question = "Count from 1 to 150, all numbers, with commas."
stream = client.chat.completions.create(
    model=info["model"],
    messages=[{"role": "user", "content": question}],
    max_tokens=700,
    temperature=0,
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print("\n[the stream has ended:", chunk.choices[0].finish_reason, "]")
