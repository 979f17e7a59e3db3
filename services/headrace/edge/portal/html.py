"""The key page as HTML: one small page, without a script. Everything that is shown is escaped."""

import base64
import hashlib
import time
from collections.abc import Sequence
from html import escape
from typing import Any, Final

CSS: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
header { display: flex; gap: 1rem; align-items: baseline; justify-content: space-between; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #8884; }
code { font-size: 1.05rem; overflow-wrap: anywhere; }
.new { border: 2px solid #2a7; padding: .5rem 1rem; }
.bad { border: 2px solid #c33; padding: .5rem 1rem; }
form { display: inline; }
input, select, button { font: inherit; padding: .2rem .5rem; }
"""

STYLE: Final = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()


def policy(form_targets: Sequence[str]) -> str:
    """The page's Content-Security-Policy: no script, nothing from elsewhere."""
    targets = " ".join(["'self'", *form_targets])
    return (
        f"default-src 'none'; style-src 'sha256-{STYLE}'; form-action {targets}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def page(
    *,
    user: str,
    groups: Sequence[str],
    keys: Sequence[dict[str, Any]],
    form_token: str,
    days: int,
    new_key: str = "",
    problem: str = "",
) -> bytes:
    """The page of somebody who is signed in. `keys` are as `telling.key` tells them."""
    shown = ""
    if new_key:
        shown += (
            '<div class="new" role="status"><p>Your new key. It is shown this once: keep it in a '
            f'safe place.</p><p><code id="new-key">{escape(new_key)}</code></p></div>'
        )
    if problem:
        shown += f'<p class="bad" role="alert">{escape(problem)}</p>'
    rows = "".join(_row(key, form_token) for key in keys)
    body = f"""
<header><h1>API keys</h1>
<p>{escape(user)} {_form("/account/signout", form_token, "Sign out")}</p></header>
{shown}
<p>Groups: {escape(", ".join(groups) or "none")}</p>
<table><thead><tr><th>Key</th><th>Name</th><th>State</th><th>Until</th><th>Last used</th><th></th>
</tr></thead><tbody>{rows}</tbody></table>
<h2>A new key</h2>
<form method="post" action="/account/keys">{_hidden(form_token)}
<label>Name <input name="name" maxlength="100" autocomplete="off"></label>
<label>Days <input name="days" type="number" min="1" max="{days}" value="{min(days, 30)}"></label>
<button>Make a key</button></form>
"""
    return _document("API keys", body)


def message(title: str, text: str, *, link: str = "/account") -> bytes:
    """A page that says one thing."""
    body = f'<h1>{escape(title)}</h1><p class="bad">{escape(text)}</p>'
    return _document(title, f'{body}<p><a href="{escape(link)}">Try again</a></p>')


def _row(key: dict[str, Any], form_token: str) -> str:
    acts = ""
    if key["state"] == "works":
        id = escape(key["id"])
        acts = _form(f"/account/keys/{id}/rotate", form_token, "Replace")
        acts += " " + _form(f"/account/keys/{id}/revoke", form_token, "Revoke")
    cells = (
        key["id"], key["name"], key["state"], _when(key["expires"]), _when(key["last_used"]),
    )  # fmt: skip
    return (
        f'<tr id="{escape(key["id"])}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + f"<td>{acts}</td></tr>"
    )


def _form(action: str, form_token: str, label: str) -> str:
    hidden = _hidden(form_token)
    return f'<form method="post" action="{action}">{hidden}<button>{label}</button></form>'


def _hidden(form_token: str) -> str:
    return f'<input type="hidden" name="form" value="{escape(form_token)}">'


def _when(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d", time.gmtime(at))


def _document(title: str, body: str) -> bytes:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>{body}</body></html>"
    ).encode()
