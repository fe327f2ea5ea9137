"""`user`, `org` and `token`: who may use a served home. They act on the home itself, on the server's machine."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.actions import accounts as account_actions
from hub.cli.output import JsonOption, Output, table
from hub.cli.target import own_home
from hub.home import open_home

users = typer.Typer(no_args_is_help=True, help="People who may sign in.")
orgs = typer.Typer(no_args_is_help=True, help="Organisations: namespaces that people share.")
tokens = typer.Typer(no_args_is_help=True, help="Tokens that people and programs sign in with.")

UserOption = Annotated[str, typer.Option("--user", help="An account.")]
RoleOption = Annotated[str, typer.Option("--role", help="read, write or admin.")]


def register(app: typer.Typer) -> None:
    app.add_typer(users, name="user")
    app.add_typer(orgs, name="org")
    app.add_typer(tokens, name="token")


@users.command("create")
def create_user(
    name: Annotated[str, typer.Argument()],
    *,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an account. It signs in with a token: mixhub token create --user NAME"""
    out = Output(as_json=as_json)
    with open_home(own_home("user")) as home:
        made = account_actions.create_user(home, name, is_admin=admin)
    out.result({"name": made.name, "is_admin": made.is_admin}, f"made {made.name}")


@users.command("adopt")
def adopt(
    namespace: Annotated[str, typer.Argument(help="For example team, of team/sql.")],
    *,
    user: UserOption,
    as_json: JsonOption = False,
) -> None:
    """Hand a namespace that was published without a server over to a user."""
    out = Output(as_json=as_json)
    with open_home(own_home("user")) as home:
        handed = account_actions.adopt(home, namespace, user=user)
    out.result({"namespace": handed.name, "owner": user}, f"{handed.name} belongs to {user}")


@orgs.command("create")
def create_org(
    name: Annotated[str, typer.Argument()],
    *,
    owner: Annotated[str, typer.Option("--owner", help="The account that owns it.")],
    as_json: JsonOption = False,
) -> None:
    """Make an organisation."""
    out = Output(as_json=as_json)
    with open_home(own_home("org")) as home:
        made = account_actions.create_org(home, name, owner=owner)
    out.result({"name": made.name, "owner": owner}, f"made {made.name}")


@orgs.command("add")
def add_member(
    org: Annotated[str, typer.Argument()], *, user: UserOption, role: RoleOption = "write", as_json: JsonOption = False
) -> None:
    """Make an account a member, or change its role."""
    out = Output(as_json=as_json)
    with open_home(own_home("org")) as home:
        account_actions.put_member(home, org, user=user, role=role)
    out.result({"org": org, "user": user, "role": role}, f"{user} has the role {role} in {org}")


@orgs.command("remove")
def remove_member(
    org: Annotated[str, typer.Argument()], *, user: UserOption, as_json: JsonOption = False
) -> None:  # fmt: skip
    """End a membership."""
    out = Output(as_json=as_json)
    with open_home(own_home("org")) as home:
        account_actions.put_member(home, org, user=user, role=None)
    out.result({"org": org, "user": user, "role": None}, f"{user} is no member of {org} any more")


@tokens.command("create")
def create_token(
    *,
    user: UserOption,
    role: RoleOption,
    namespace: Annotated[str, typer.Option("--namespace", help="Good in this namespace only.")] = "",
    name: Annotated[str, typer.Option("--name", help="To tell it from others.")] = "",
    days: Annotated[float | None, typer.Option("--days", min=0, help="Good for this long; default: for ever.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token, printed once and alone: TOKEN=$(mixhub token create --user ann --role write)"""
    out = Output(as_json=as_json)
    with open_home(own_home("token")) as home:
        made = account_actions.create_token(home, user, role=role, name=name, namespace=namespace, days=days)
    data = {"token": made.token, "id": made.stored.id, "account": user, "role": role, "namespace": namespace or None}
    out.result(data, made.token)


@tokens.command("list")
def list_tokens(
    *, user: Annotated[str, typer.Option("--user", help="Only of this account.")] = "", as_json: JsonOption = False
) -> None:
    """All tokens, without their secret."""
    out = Output(as_json=as_json)
    with open_home(own_home("token")) as home:
        found = account_actions.list_tokens(home, user)
    rows = [(t.id, t.account, t.name, t.role, t.namespace, t.created_at, t.state) for t in found]
    columns = ("id", "account", "name", "role", "namespace", "created", "state")
    out.result([t.as_dict() for t in found], table("", columns, rows))


@tokens.command("revoke")
def revoke_token(token_id: Annotated[int, typer.Argument(metavar="ID")], *, as_json: JsonOption = False) -> None:
    """Refuse a token from now on."""
    out = Output(as_json=as_json)
    with open_home(own_home("token")) as home:
        gone = account_actions.revoke_token(home, token_id)
    out.result(gone.as_dict(), f"token {gone.id} of {gone.account} is revoked")
