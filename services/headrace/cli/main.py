"""The root of the command line."""

import click

from headrace.cli.admin.db import db
from headrace.cli.admin.keys import keys
from headrace.cli.admin.limits import limits
from headrace.cli.admin.usage import usage
from headrace.cli.admin.users import audit, groups, users
from headrace.cli.demo.command import demo
from headrace.cli.doctor.command import doctor
from headrace.cli.models import models
from headrace.cli.operate.scale import drain, scale
from headrace.cli.operate.top import jobs, top
from headrace.cli.setup.init import init
from headrace.cli.status import status

GROUP_HELP = """\
An always-on, OpenAI-compatible service on the batch hardware of a Slurm cluster.

\b
On the web machine run two daemons beside a stock nats-server (the "hub", the queue):
  headrace-edge     the API: takes requests over HTTP, streams the answers back
  headrace-bridge   one SSH connection to each cluster; carries bytes, reads nothing
On each cluster's service node:
  a stock nats-server (the "leaf"), and the gate, the one thing the bridge's key may run
  headrace-scaler   submits and ends each model's Slurm jobs, as its backlog asks for
Inside Slurm jobs, on compute nodes:
  headrace-worker   runs the engine (vLLM, llama.cpp, ...), pulls requests, streams tokens

\b
Where to begin:
  headrace demo     all of it on this machine, with a small real model, in seconds
  headrace init     configurations and keys for your own machines
  headrace models   check and show the catalogue: one file per model
  headrace status   ask a running service how it is

\b
Who may use it, on the web machine:
  headrace keys     API keys; `users`, `groups`: who may use which model
  headrace limits   how much of it, by key, user, group and model
  headrace usage    what was asked for, and what it took
  headrace audit    who changed what, and when
  headrace db       save, restore and update the store of these

\b
For who runs it, beside the scaler:
  headrace doctor   check every hop, and say what to do
  headrace top      watch models and their jobs; `jobs` lists them
  headrace scale    bound a model's jobs by hand; `drain` lets them end
"""


@click.group(help=GROUP_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace", prog_name="headrace")
def main() -> None:
    pass


main.add_command(init)
main.add_command(demo)
main.add_command(models)
main.add_command(status)
for command in (keys, users, groups, limits, usage, audit, db, doctor, top, jobs, scale, drain):
    main.add_command(command)
