"""The HTML pages, from templates."""

from html import escape
from pathlib import Path
from string import Template

from .messages import html_response
from .sessions import USERS

TEMPLATES = Path(__file__).parent / "templates"
FEATURED = "42,12007,15000,27500"
NOTICES = {
    "login": "Please log in first.",
    "wrong-password": "No such user, or another password.",
}


def get_dashboard(app, request):
    user = app.sessions.user_of(request)
    page = _render(
        app,
        "dashboard.html",
        featured=FEATURED,
        notice=escape(NOTICES.get(request.query_value("notice"), "")),
        account=_account(user),
        signed_in="yes" if user else "no",
        first=app.held[0],
        last=app.held[-1],
    )
    return html_response(page).header("Cache-Control", "private, no-cache")


def report_page(app, report):
    return _render(
        app,
        "report.html",
        user=escape(report["user_id"]),
        generated_at=escape(report["generated_at"]),
        months=report["months"],
        resamples=f"{report['resamples']:,}",
        seconds=report["seconds"],
        portfolio=_summary(report),
        rows="".join(map(_row, report["instruments"])),
        pairs="".join(map(_pair, _ends(report["correlations"]))),
        missing=_missing(report["missing"]),
    )


def _render(app, name, **values):
    template = Template((TEMPLATES / name).read_text())
    names = ("dashboard.css", "dashboard.js", "favicon.svg", "uplot.css", "uplot.js")
    urls = {each.replace(".", "_"): app.assets.url(each) for each in names}
    return template.substitute(urls, **values)


def _account(user):
    if user:
        return (
            f'<form method="post" action="/logout" class="account"><span>{escape(user)}</span>'
            '<button class="quiet">Log out</button></form>'
        )
    hint = ", ".join(f"{name}/{password}" for name, password in USERS.items())
    return (
        '<form method="post" action="/login" class="account">'
        '<input name="user" placeholder="user" aria-label="user" autocomplete="username" required>'
        '<input name="password" type="password" placeholder="password" aria-label="password"'
        ' autocomplete="current-password" required>'
        f'<button title="demo users: {escape(hint)}">Log in</button></form>'
    )


def _percent(value):
    return f"{value * 100:+.1f}&thinsp;%"


def _summary(report):
    names = {"annual_return": "Return a year", "volatility": "Volatility", "max_drawdown": "Worst drawdown"}
    return "".join(
        f"<div class=figure><span>{title}</span><strong>{_percent(report['portfolio'][name])}</strong>"
        f"<small>90&thinsp;%: {' … '.join(map(_percent, report['intervals'][name]))}</small></div>"
        for name, title in names.items()
    )


def _row(each):
    cells = "".join(f"<td>{_percent(each[name])}</td>" for name in ("annual_return", "volatility", "max_drawdown"))
    return f"<tr><td>{each['instrument_id']}</td><td>{escape(each['symbol'])}</td>{cells}</tr>"


def _pair(each):
    strength = abs(each["correlation"]) * 100
    return (
        f"<tr><td>{each['a']} and {each['b']}</td><td>{each['correlation']:+.2f}</td>"
        f'<td><meter min="0" max="100" value="{strength:.0f}"></meter></td></tr>'
    )


def _ends(pairs):
    """The closest and the most distant pairs."""
    return pairs if len(pairs) <= 10 else pairs[:5] + pairs[-5:]


def _missing(ids):
    return f"<p class=notice>Not held here: {', '.join(map(str, ids))}.</p>" if ids else ""
