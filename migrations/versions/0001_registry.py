"""The registry: accounts, repos, revisions, files, refs, blobs, aliases, bases, adapters, compositions, searches.

Written out, not derived from the models: it must stay as it is when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_accounts_and_repos()
    _create_blobs()
    _create_revisions()
    _create_aliases()
    _create_bases_and_adapters()
    _create_compositions()
    _create_searches()


def downgrade() -> None:
    for table in (
        "trial", "search", "composition_parent", "composition", "adapter_tag", "adapter", "base_name", "base",
        "alias_event", "alias", "version_tombstone", "ref", "revision_file", "revision", "blob_use", "blob", "repo",
        "account",
    ):  # fmt: skip
        op.drop_table(table)  # its indexes and triggers go with it
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")


def _create_accounts_and_repos() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(96), nullable=False),
        sa.Column(
            "name_key", sa.String(96), nullable=False, comment="name in lower case: unique without regard to case"
        ),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=True, comment="of an org: the account that may write to it"),
        _instant("created_at"),
        _choice("account", "kind", "user", "org"),
        sa.ForeignKeyConstraint(["owner_id"], ["account.id"], name=op.f("fk_account_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("name_key", name=op.f("uq_account_name_key")),
    )
    op.create_table(
        "repo",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "uuid", sa.String(32), nullable=False, comment="part of every commit id, so two repos never share one"
        ),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(96), nullable=False),
        sa.Column(
            "name_key", sa.String(96), nullable=False, comment="name in lower case: unique without regard to case"
        ),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("visibility", sa.String(8), nullable=False),
        sa.Column("gated", sa.String(8), nullable=True, comment="how access is granted; NULL: not gated"),
        _instant("created_at"),
        _instant("deleted_at", nullable=True, comment="hidden since; NULL: live"),
        sa.Column("downloads", sa.Integer(), nullable=False),
        _choice("repo", "gated", "auto", "manual"),
        _choice("repo", "kind", "model"),
        _hex("repo", "uuid", 32),
        _choice("repo", "visibility", "public", "private"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_repo_account_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repo")),
        sa.UniqueConstraint("uuid", name=op.f("uq_repo_uuid")),
    )
    op.create_index(
        "uq_repo_live_name",
        "repo",
        ["account_id", "name_key"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def _create_blobs() -> None:
    op.create_table(
        "blob",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("git_sha1", sa.String(40), nullable=False, comment="sha1 of 'blob <size>\\0' and the content"),
        _instant("created_at", comment="first or latest upload; a sweep spares young blobs"),
        _hex("blob", "git_sha1", 40),
        _hex("blob", "sha256", 64),
        sa.CheckConstraint("size >= 0", name=op.f("ck_blob_size_positive")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blob")),
    )
    op.create_table(
        "blob_use",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column(
            "sha256",
            sa.String(64),
            nullable=False,
            comment="knowing a digest gives no right to its bytes: this account uploaded them",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_blob_use_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_blob_use_sha256"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account_id", "sha256", name=op.f("pk_blob_use")),
    )


def _create_revisions() -> None:
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column(
            "commit_id",
            sa.String(40),
            nullable=False,
            comment="digest over repo uuid, tree, parent, author, time and message",
        ),
        sa.Column(
            "tree_digest", sa.String(64), nullable=False, comment="sha256 over the sorted files: equal means no change"
        ),
        sa.Column("parent_id", sa.Integer(), nullable=True, comment="NULL: the first commit of its branch"),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        _instant("created_at"),
        sa.Column(
            "state", sa.String(16), nullable=False, comment="incomplete, broken: kept, but not usable as an adapter"
        ),
        sa.Column("reason", sa.String(), nullable=True, comment="why the state is not ok"),
        _hex("revision", "commit_id", 40),
        _hex("revision", "tree_digest", 64),
        _choice("revision", "state", "ok", "incomplete", "broken"),
        sa.ForeignKeyConstraint(
            ["repo_id", "parent_id"],
            ["revision.repo_id", "revision.id"],
            name=op.f("fk_revision_repo_id_parent_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(["repo_id"], ["repo.id"], name=op.f("fk_revision_repo_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
        sa.UniqueConstraint("repo_id", "commit_id", name=op.f("uq_revision_repo_id_commit_id")),
        sa.UniqueConstraint("repo_id", "id", name=op.f("uq_revision_repo_id_id")),
    )
    op.create_table(
        "revision_file",
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(1024), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column(
            "git_sha1", sa.String(40), nullable=False, comment="git blob id of the content: the oid of a regular file"
        ),
        sa.Column(
            "pointer_sha1",
            sa.String(40),
            nullable=False,
            comment="git blob id of the LFS pointer text: the oid of an lfs file",
        ),
        sa.Column("upload_mode", sa.String(8), nullable=False),
        _hex("revision_file", "git_sha1", 40),
        _hex("revision_file", "pointer_sha1", 40),
        _hex("revision_file", "sha256", 64),
        _choice("revision_file", "upload_mode", "regular", "lfs"),
        sa.CheckConstraint("size >= 0", name=op.f("ck_revision_file_size_positive")),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revision.id"], name=op.f("fk_revision_file_revision_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_revision_file_sha256"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("revision_id", "path", name=op.f("pk_revision_file")),
    )
    op.create_index(op.f("ix_revision_file_sha256"), "revision_file", ["sha256"], unique=False)
    op.create_table(
        "ref",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(200), nullable=False, comment="a tag v<number> is a version"),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(), nullable=True, comment="of a tag"),
        _instant("updated_at"),
        _choice("ref", "kind", "branch", "tag"),
        sa.ForeignKeyConstraint(
            ["repo_id", "revision_id"],
            ["revision.repo_id", "revision.id"],
            name=op.f("fk_ref_repo_id_revision_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(["repo_id"], ["repo.id"], name=op.f("fk_ref_repo_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ref")),
        sa.UniqueConstraint("repo_id", "name", name=op.f("uq_ref_repo_id_name")),
    )
    op.create_index(op.f("ix_ref_revision_id"), "ref", ["revision_id"], unique=False)
    op.create_table(
        "version_tombstone",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("repo_name", sa.String(96), nullable=False),
        sa.Column("repo_name_key", sa.String(96), nullable=False, comment="repo_name in lower case"),
        sa.Column("number", sa.Integer(), nullable=False, comment="3 for v3"),
        sa.Column(
            "tree_digest", sa.String(64), nullable=False, comment="the only content that may have this version again"
        ),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("deleted_by", sa.String(96), nullable=False),
        _instant("deleted_at"),
        _choice("version_tombstone", "cause", "version deleted", "repo deleted", "repo renamed"),
        _hex("version_tombstone", "tree_digest", 64),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_version_tombstone_account_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version_tombstone")),
    )
    op.create_index(
        op.f("ix_version_tombstone_account_id_repo_name_key_number"),
        "version_tombstone",
        ["account_id", "repo_name_key", "number"],
        unique=False,
    )


def _create_aliases() -> None:
    op.create_table(
        "alias",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column(
            "revision_id", sa.Integer(), nullable=False, comment="where it points now: the revision of its last event"
        ),
        sa.ForeignKeyConstraint(
            ["repo_id", "revision_id"],
            ["revision.repo_id", "revision.id"],
            name=op.f("fk_alias_repo_id_revision_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(["repo_id"], ["repo.id"], name=op.f("fk_alias_repo_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias")),
        sa.UniqueConstraint("repo_id", "id", name=op.f("uq_alias_repo_id_id")),
        sa.UniqueConstraint("repo_id", "name", name=op.f("uq_alias_repo_id_name")),
    )
    op.create_index(op.f("ix_alias_revision_id"), "alias", ["revision_id"], unique=False)
    op.create_table(
        "alias_event",
        sa.Column("alias_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, comment="1, 2, 3 ... without gaps: one linear history"),
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column(
            "previous_seq", sa.Integer(), nullable=True, comment="the event that a rollback from here goes back to"
        ),
        sa.Column("actor", sa.String(96), nullable=False),
        _instant("created_at"),
        _choice("alias_event", "action", "promote", "rollback"),
        sa.CheckConstraint(
            "seq >= 1 AND (previous_seq IS NULL OR previous_seq < seq)", name=op.f("ck_alias_event_seq_order")
        ),
        sa.ForeignKeyConstraint(
            ["repo_id", "alias_id"],
            ["alias.repo_id", "alias.id"],
            name=op.f("fk_alias_event_repo_id_alias_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["repo_id", "revision_id"],
            ["revision.repo_id", "revision.id"],
            name=op.f("fk_alias_event_repo_id_revision_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("alias_id", "seq", name=op.f("pk_alias_event")),
    )
    _make_append_only("alias_event")


def _create_bases_and_adapters() -> None:
    op.create_table(
        "base",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "identity",
            sa.String(64),
            nullable=False,
            comment="sha256 over digest and tensors_digest, or the first name where the values were not read",
        ),
        sa.Column(
            "digest",
            sa.String(64),
            nullable=False,
            comment="sha256 over the architecture fields and the sorted tensor names and shapes",
        ),
        sa.Column("architecture", sa.JSON(), nullable=False),
        sa.Column("shapes", sa.JSON(), nullable=False, comment="tensor name -> list of sizes"),
        sa.Column("parameter_count", sa.BigInteger(), nullable=False),
        sa.Column("tensors_digest", sa.String(64), nullable=True, comment="over the values too, where they were read"),
        _instant("created_at"),
        _hex("base", "identity", 64),
        _hex("base", "digest", 64),
        _hex("base", "tensors_digest", 64),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base")),
        sa.UniqueConstraint("digest", "tensors_digest", name=op.f("uq_base_digest_tensors_digest")),
        sa.UniqueConstraint("identity", name=op.f("uq_base_identity")),
    )
    op.create_table(
        "base_name",
        sa.Column("name", sa.String(1024), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False, comment="paths and repos may come to mean another base"),
        _instant("created_at"),
        _choice("base_name", "kind", "hub", "path", "repo", "quantised"),
        sa.ForeignKeyConstraint(["base_id"], ["base.id"], name=op.f("fk_base_name_base_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_base_name")),
    )
    op.create_index(op.f("ix_base_name_base_id"), "base_name", ["base_id"], unique=False)
    op.create_table(
        "adapter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("folder", sa.String(1024), nullable=False, comment="empty: the root of the repo"),
        sa.Column("usable", sa.Boolean(), nullable=False, comment="can be mixed; else refusal says why not"),
        sa.Column("refusal", sa.String(), nullable=True),
        sa.Column("base_id", sa.Integer(), nullable=True),
        sa.Column("binding", sa.String(8), nullable=False),
        sa.Column(
            "base_model_name",
            sa.String(),
            nullable=True,
            comment="as written in adapter_config.json; never an identity",
        ),
        sa.Column("base_model_revision", sa.String(), nullable=True, comment="as written in adapter_config.json"),
        sa.Column("peft_type", sa.String(), nullable=True),
        sa.Column("task_type", sa.String(), nullable=True),
        sa.Column("rank_min", sa.Integer(), nullable=True),
        sa.Column("rank_max", sa.Integer(), nullable=True),
        sa.Column("ranks", sa.JSON(), nullable=False, comment="module path -> rank"),
        sa.Column("alpha", sa.Double(), nullable=True),
        sa.Column("scaling_kind", sa.String(), nullable=True, comment="lora (alpha/r), rslora (alpha/sqrt r) ..."),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column(
            "modules", sa.JSON(), nullable=False, comment="objects: path, rank, in_features, out_features, dtype"
        ),
        sa.Column("parameter_count", sa.BigInteger(), nullable=True),
        sa.Column("dtype", sa.String(), nullable=True),
        sa.Column(
            "modules_matched",
            sa.Integer(),
            nullable=True,
            comment="of the adapter's modules in the base; NULL: unknown",
        ),
        sa.Column("modules_missing", sa.Integer(), nullable=True),
        sa.Column("missing_modules", sa.JSON(), nullable=False),
        sa.Column("zero_delta", sa.Boolean(), nullable=True, comment="every B is zero: loads and changes nothing"),
        sa.Column("weights_sha256", sa.String(64), nullable=True),
        sa.Column("config_sha256", sa.String(64), nullable=True),
        sa.Column("licence", sa.String(), nullable=True),
        sa.Column(
            "prompt_template",
            sa.String(),
            nullable=True,
            comment="how an input must be wrapped; from the card or given",
        ),
        sa.Column("chat_template", sa.String(), nullable=True),
        sa.Column("label_texts", sa.JSON(), nullable=True, comment="label -> text, for label matching"),
        sa.Column("stop_strings", sa.JSON(), nullable=False),
        sa.Column("suggested_weight", sa.Double(), nullable=True),
        sa.CheckConstraint("(binding = 'bound') = (base_id IS NOT NULL)", name=op.f("ck_adapter_binding_has_base")),
        _choice("adapter", "binding", "bound", "unbound"),
        _hex("adapter", "config_sha256", 64),
        _hex("adapter", "weights_sha256", 64),
        sa.CheckConstraint("usable OR refusal IS NOT NULL", name=op.f("ck_adapter_refusal_given")),
        sa.ForeignKeyConstraint(["base_id"], ["base.id"], name=op.f("fk_adapter_base_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revision.id"], name=op.f("fk_adapter_revision_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter")),
        sa.UniqueConstraint("revision_id", "folder", name=op.f("uq_adapter_revision_id_folder")),
    )
    op.create_index(op.f("ix_adapter_base_id"), "adapter", ["base_id"], unique=False)
    op.create_table(
        "adapter_tag",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("value", sa.String(), nullable=True, comment="of a metric"),
        _choice("adapter_tag", "kind", "task", "metric", "dataset", "tag"),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_adapter_tag_adapter_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("adapter_id", "kind", "name", name=op.f("pk_adapter_tag")),
    )
    op.create_index(op.f("ix_adapter_tag_kind_name"), "adapter_tag", ["kind", "name"], unique=False)


def _create_compositions() -> None:
    op.create_table(
        "composition",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="the result"),
        sa.Column("folder", sa.String(1024), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False, comment="content of the recipe file that remakes the result"),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revision.id"], name=op.f("fk_composition_revision_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_composition")),
        sa.UniqueConstraint("revision_id", "folder", name=op.f("uq_composition_revision_id_folder")),
    )
    op.create_table(
        "composition_parent",
        sa.Column("composition_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="0, 1 ... in the order that was written"),
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("folder", sa.String(1024), nullable=False),
        sa.Column(
            "full_name", sa.String(256), nullable=False, comment="as written then; the repo may have moved since"
        ),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("config_sha256", sa.String(64), nullable=False),
        _hex("composition_parent", "config_sha256", 64),
        _hex("composition_parent", "weights_sha256", 64),
        sa.ForeignKeyConstraint(
            ["composition_id"],
            ["composition.id"],
            name=op.f("fk_composition_parent_composition_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["repo_id", "revision_id"],
            ["revision.repo_id", "revision.id"],
            name=op.f("fk_composition_parent_repo_id_revision_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["repo_id"], ["repo.id"], name=op.f("fk_composition_parent_repo_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("composition_id", "position", name=op.f("pk_composition_parent")),
    )
    op.create_index(
        op.f("ix_composition_parent_revision_id_folder"), "composition_parent", ["revision_id", "folder"], unique=False
    )


def _create_searches() -> None:
    op.create_table(
        "search",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(32), nullable=False),
        _instant("created_at"),
        _instant("finished_at", nullable=True, comment="finished, stopped or failed at; NULL: running"),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("adapters", sa.JSON(), nullable=False, comment="objects: full_name, repo_uuid, commit_id, folder"),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("examples_digest", sa.String(64), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.CheckConstraint("(status = 'running') = (finished_at IS NULL)", name=op.f("ck_search_finished_has_time")),
        _hex("search", "examples_digest", 64),
        _hex("search", "uuid", 32),
        _choice("search", "status", "running", "stopped", "finished", "failed"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search")),
        sa.UniqueConstraint("uuid", name=op.f("uq_search_uuid")),
    )
    op.create_table(
        "trial",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="order in which it was asked for"),
        sa.Column("kind", sa.String(16), nullable=False, comment="base, uniform, single, ask, preset ..."),
        sa.Column("weights", sa.JSON(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True, comment="bit for bit as computed; NULL: not a number"),
        sa.Column(
            "objective", sa.Double(), nullable=True, comment="loss plus penalties: what was minimised; NULL: nan"
        ),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.CheckConstraint("number >= 0", name=op.f("ck_trial_number_positive")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_trial_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_trial")),
    )


def _make_append_only(table: str) -> None:
    """Triggers that refuse UPDATE and DELETE, whoever asks."""
    message = f"{table} is append-only"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_never_emptied BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )


def _instant(name: str, *, nullable: bool = False, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)


def _hex(table: str, column: str, length: int) -> sa.CheckConstraint:
    form = f"length({column}) = {length} AND trim({column}, '0123456789abcdef') = ''"
    return sa.CheckConstraint(form, name=op.f(f"ck_{table}_{column}_form"))


def _choice(table: str, column: str, *choices: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{choice}'" for choice in choices)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=op.f(f"ck_{table}_{column}_choice"))
