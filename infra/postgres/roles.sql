-- Least privileges for Tidemark's two roles, for the reference tables. Run as a superuser or as the owner of the tables with CREATEROLE, once and again
-- whenever tables are added; then give the roles passwords: ALTER ROLE tidemark_capture PASSWORD '…'; ALTER ROLE tidemark_pruner PASSWORD '…';
-- Another schema than public: PGOPTIONS='-c tidemark.schema=NAME'. For other tables change the two lists below. The archiver needs no Postgres role at all.
--
-- tidemark_capture: reads the WAL through its slot and copies the archived tables. It can change nothing.
-- tidemark_pruner:  deletes from the archived tables and from no other. UPDATE on one key column is what SELECT … FOR UPDATE SKIP LOCKED asks for; the pruner never updates.
DO $$
DECLARE
  archived CONSTANT text[] := ARRAY[  -- table, first key column
    'prices', 'id', 'sol_stablecoin_trades', 'id', 'order_book_features', 'id', 'whale_movements', 'id', 'cycle_tracker', 'id', 'follow_the_goat_buyins', 'id',
    'follow_the_goat_buyins_price_checks', 'id', 'price_points', 'id', 'price_analysis', 'id', 'wallet_profiles', 'id', 'buyin_trail_minutes', 'buyin_id',
    'trade_filter_values', 'id', 'job_execution_metrics', 'id'];
  protected CONSTANT text[] := ARRAY[
    'follow_the_goat_plays', 'follow_the_goat_tracking', 'pattern_config_projects', 'pattern_config_filters', 'wallet_profiles_state', 'filter_fields_catalog',
    'filter_reference_suggestions', 'filter_combinations', 'ai_play_updates'];
  schema CONSTANT text := coalesce(nullif(current_setting('tidemark.schema', true), ''), 'public');
  name text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidemark_capture') THEN CREATE ROLE tidemark_capture LOGIN REPLICATION; END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tidemark_pruner') THEN CREATE ROLE tidemark_pruner LOGIN; END IF;
  -- Slot health and the replay lag of standbys, by which the pruner paces itself, are visible to this role only.
  GRANT pg_read_all_stats TO tidemark_capture, tidemark_pruner;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO tidemark_capture, tidemark_pruner', schema);
  FOREACH name IN ARRAY protected LOOP
    EXECUTE format('REVOKE ALL ON %I.%I FROM tidemark_capture, tidemark_pruner', schema, name);
  END LOOP;
  FOR i IN 1 .. array_length(archived, 1) BY 2 LOOP
    EXECUTE format('GRANT SELECT ON %I.%I TO tidemark_capture', schema, archived[i]);
    EXECUTE format('GRANT SELECT, DELETE, UPDATE (%I) ON %I.%I TO tidemark_pruner', archived[i + 1], schema, archived[i]);
  END LOOP;
END
$$;
