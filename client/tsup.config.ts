import { defineConfig } from 'tsup'

export default defineConfig({
  entry: { index: 'src/index.ts', react: 'src/react.ts', publisher: 'src/publisher.ts' },
  format: ['esm', 'cjs'],
  target: 'es2022',
  dts: true,
  clean: true,
  splitting: false,
  // Constants become numbers.
  esbuildOptions(options) {
    options.minifySyntax = true
  },
  treeshake: false,
  // One module of the core for all: its clients are shared.
  external: ['react', 'rooms-client'],
})
