-- The newest migration that was applied, by whichever restante.
select max(version) from schema_migration
