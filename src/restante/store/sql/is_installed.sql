-- Whether restante has ever migrated this database.
select to_regclass('schema_migration') is not null
