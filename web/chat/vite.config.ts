import { defineConfig } from 'vite';

// The chat page: index.html, chat.js and chat.css under fixed names, because the server's table of files is made by name.
export default defineConfig({
  root: import.meta.dirname,
  base: './',
  // The page lies at the root, its files under web/: relative, so that a proxy may put all of it into a folder.
  experimental: {
    renderBuiltUrl: (name, { hostType }) => (hostType === 'html' ? `web/${name}` : { relative: true }),
  },
  server: { proxy: Object.fromEntries(['/v1', '/props', '/tokenize'].map((path) => [path, 'http://127.0.0.1:8080'])) },
  build: {
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox121', 'safari17.5'], // light-dark() stays as it is
    modulePreload: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    emptyOutDir: true,
    rolldownOptions: {
      output: {
        entryFileNames: 'chat.js',
        assetFileNames: 'chat[extname]',
        codeSplitting: false,
      },
    },
  },
});
