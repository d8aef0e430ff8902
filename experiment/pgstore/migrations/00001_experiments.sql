-- +goose Up
CREATE TABLE layer (
    id         integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key        text        NOT NULL UNIQUE,
    unit_type  text        NOT NULL,
    salt       bytea       NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE experiment (
    id         integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key        text        NOT NULL UNIQUE,
    layer_id   integer     NOT NULL REFERENCES layer,
    state      text        NOT NULL CHECK (state IN ('draft', 'running', 'paused', 'stopped', 'archived')),
    version    bigint      NOT NULL,
    run_id     integer,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- One row for each version that ever was. change_id tells a change that is sent
-- again, because its first answer was lost, from another change.
CREATE TABLE experiment_version (
    experiment_id integer     NOT NULL REFERENCES experiment,
    version       bigint      NOT NULL,
    definition    jsonb       NOT NULL,
    state         text        NOT NULL,
    change_id     uuid        NOT NULL UNIQUE,
    at            timestamptz NOT NULL,
    PRIMARY KEY (experiment_id, version)
);

CREATE TABLE run (
    id            integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id integer     NOT NULL REFERENCES experiment,
    no            integer     NOT NULL,
    salt          bytea       NOT NULL,
    started_at    timestamptz NOT NULL,
    UNIQUE (experiment_id, no)
);
ALTER TABLE experiment ADD FOREIGN KEY (run_id) REFERENCES run;

CREATE TABLE treatment (
    experiment_id integer  NOT NULL REFERENCES experiment,
    no            smallint NOT NULL,
    key           text     NOT NULL,
    control       boolean  NOT NULL,
    PRIMARY KEY (experiment_id, no),
    UNIQUE (experiment_id, key)
);

-- The tables below grow with traffic: insert-only, fixed width but for unit, and
-- without foreign keys, whose row locks would make every insert write twice.

-- The one place of raw ids.
CREATE TABLE unit (
    key  uuid NOT NULL PRIMARY KEY,
    type text NOT NULL,
    id   text NOT NULL
);

CREATE TABLE assignment (
    unit_key    uuid        NOT NULL,
    assigned_at timestamptz NOT NULL,
    version     bigint      NOT NULL,
    run_id      integer     NOT NULL,
    treatment   smallint    NOT NULL,
    PRIMARY KEY (unit_key, run_id)
);

CREATE TABLE exposure (
    unit_key   uuid        NOT NULL,
    exposed_at timestamptz NOT NULL,
    run_id     integer     NOT NULL,
    PRIMARY KEY (unit_key, run_id)
);

CREATE TABLE event (
    id          uuid             NOT NULL PRIMARY KEY,
    unit_key    uuid             NOT NULL,
    occurred_at timestamptz      NOT NULL,
    received_at timestamptz      NOT NULL,
    value       double precision,
    items_total bigint,
    discounts   bigint,
    currency    char(3),
    type        text             NOT NULL
);
CREATE INDEX event_unit_key ON event (unit_key, occurred_at);

-- One row, whose version grows with every change of a layer or an experiment.
CREATE TABLE definitions (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint  NOT NULL
);
INSERT INTO definitions (version) VALUES (1);

-- Whoever changes definitions holds this lock alone; whoever writes assignments
-- shares it, so that no assignment is written under definitions that have been
-- replaced.
-- +goose StatementBegin
CREATE FUNCTION lock_definitions() RETURNS void LANGUAGE sql AS
$$ SELECT pg_advisory_xact_lock(7300128431) $$;

CREATE FUNCTION check_definitions(expected bigint) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
    found_version bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7300128431);
    SELECT version INTO found_version FROM definitions;
    IF found_version IS DISTINCT FROM expected THEN
        RAISE EXCEPTION 'definitions are at version %, not %', found_version, expected USING ERRCODE = 'XP001';
    END IF;
END
$$;

-- Raises the version and tells every listener once the transaction commits.
CREATE FUNCTION bump_definitions() RETURNS bigint LANGUAGE plpgsql AS
$$
DECLARE
    new_version bigint;
BEGIN
    UPDATE definitions SET version = version + 1 RETURNING version INTO new_version;
    PERFORM pg_notify('xpd_definitions', new_version::text);
    RETURN new_version;
END
$$;
-- +goose StatementEnd
