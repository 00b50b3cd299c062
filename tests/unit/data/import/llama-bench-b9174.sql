CREATE TABLE IF NOT EXISTS llama_bench (
  build_commit TEXT,
  build_number INTEGER,
  cpu_info TEXT,
  gpu_info TEXT,
  backends TEXT,
  model_filename TEXT,
  model_type TEXT,
  model_size INTEGER,
  model_n_params INTEGER,
  n_batch INTEGER,
  n_prompt INTEGER,
  n_gen INTEGER,
  n_depth INTEGER,
  test_time TEXT,
  avg_ns INTEGER,
  stddev_ns INTEGER,
  avg_ts REAL,
  stddev_ts REAL
);

INSERT INTO llama_bench (build_commit, build_number, cpu_info, gpu_info, backends, model_filename, model_type, model_size, model_n_params, n_batch, n_prompt, n_gen, n_depth, test_time, avg_ns, stddev_ns, avg_ts, stddev_ts) VALUES ('1a2b3c4', '9174', 'Test CPU', '', 'CPU', 'it''s a model.gguf', 'lfm2 350M Q8_0', '379000000', '354483968', '2048', '512', '0', '0', '2026-05-21T10:00:00Z', '512000000', '1000000', '1000.000000', '2.000000');
INSERT INTO llama_bench (build_commit, build_number, cpu_info, gpu_info, backends, model_filename, model_type, model_size, model_n_params, n_batch, n_prompt, n_gen, n_depth, test_time, avg_ns, stddev_ns, avg_ts, stddev_ts) VALUES ('1a2b3c4', '9174', 'Test CPU', '', 'CPU', 'it''s a model.gguf', 'lfm2 350M Q8_0', '379000000', '354483968', '4096', '512', '0', '0', '2026-05-21T10:00:05Z', '500000000', '1000000', '1024.000000', '2.000000');
