"""Members of organisations, and which namespaces an account may act in."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from storage.accounts import Account
from storage.models import AccountRow, MembershipRow
from storage.upsert import insert_missing

ROLES = ("read", "write", "admin")
"""Weak to strong; each includes the ones before."""


def put(session: Session, org: Account, account: Account, role: str) -> None:
    """Make the account a member, or change its role."""
    insert_missing(session, MembershipRow, [{"org_id": org.id, "account_id": account.id, "role": role}])
    where = (MembershipRow.org_id == org.id, MembershipRow.account_id == account.id)
    session.execute(update(MembershipRow).where(*where).values(role=role))


def remove(session: Session, org: Account, account: Account) -> None:
    session.execute(delete(MembershipRow).where(MembershipRow.org_id == org.id, MembershipRow.account_id == account.id))


def roles_of(session: Session, account: Account) -> dict[int, str]:
    """Account id of each namespace that `account` belongs to -> its role there: its own, those it owns, its orgs."""
    found = session.execute(
        select(MembershipRow.org_id, MembershipRow.role).where(MembershipRow.account_id == account.id)
    )
    owned = session.scalars(select(AccountRow.id).where(AccountRow.owner_id == account.id))
    return {**{row[0]: row[1] for row in found}, **dict.fromkeys(owned, "admin"), account.id: "admin"}


def members_of(session: Session, org: Account) -> dict[str, str]:
    """Account name -> role, by name; the owner is not listed."""
    found = session.execute(
        select(AccountRow.name, MembershipRow.role)
        .join(MembershipRow, MembershipRow.account_id == AccountRow.id)
        .where(MembershipRow.org_id == org.id)
        .order_by(AccountRow.name_key)
    )
    return {row[0]: row[1] for row in found}
