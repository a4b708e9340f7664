import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const source = (file: string) => fileURLToPath(new URL(`../src/${file}`, import.meta.url))

// The client's sources themselves: an application has `rooms-client` from npm.
export default defineConfig({
  esbuild: { jsx: 'automatic' },
  resolve: {
    alias: [
      { find: /^rooms-client$/, replacement: source('index.ts') },
      { find: /^rooms-client\/react$/, replacement: source('react.ts') },
    ],
    dedupe: ['react', 'react-dom'],
  },
})
