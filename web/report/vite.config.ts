import { defineConfig } from 'vite';

// The report site: one classic script and one style sheet, because a page opened from file:// may load no module.
export default defineConfig({
  root: import.meta.dirname,
  publicDir: false,
  build: {
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox121', 'safari17.5'], // light-dark() stays as it is
    modulePreload: false,
    emptyOutDir: true,
    lib: {
      entry: 'main.ts',
      formats: ['iife'],
      name: 'sluice_site',
      fileName: () => 'report.js',
      cssFileName: 'report',
    },
  },
});
