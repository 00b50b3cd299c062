import { defineConfig } from 'vitest/config';

// Tests lie beside what they test: NAME.test.ts. A test that needs a document starts with `// @vitest-environment jsdom`.
export default defineConfig({
  test: {
    include: ['{chat,report,shared}/**/*.test.ts'],
    environment: 'node',
    restoreMocks: true,
  },
});
