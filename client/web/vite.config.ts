//! The build of the demo page: static files with hashed names and no inline script, so that the gateway can serve
//! them under a strict Content-Security-Policy. The same sources give the same bytes.

import { defineConfig } from "vite";

const PROXIED = process.env["HAWSER_DEV_SERVER"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  base: "/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: false,
  },
  server: { host: "127.0.0.1", proxy: { "/v1": { target: PROXIED, ws: true } } },
});
