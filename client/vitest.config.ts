import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url))

// REACT=18: the hooks on that React.
const react = process.env.REACT === '18'
export default defineConfig({
  esbuild: { jsx: 'automatic' },
  resolve: {
    alias: [
      { find: /^rooms-client$/, replacement: here('src/index.ts') },
      { find: /^rooms-client\/(react|publisher)$/, replacement: here('src/$1.ts') },
      ...(react ? ['react-dom', 'react'].map((name) => ({ find: new RegExp(`^${name}(?=/|$)`), replacement: here(`test/react-18/node_modules/${name}`) })) : []),
    ],
  },
  test: {
    include: ['test/*.test.{ts,tsx}'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // Two cores, and each file starts servers.
    fileParallelism: false,
  },
})
