//! Wiring only.

import { render } from "preact";
import { App } from "./ui/app";
import "./ui/style/index.css";

const place = document.getElementById("app");
if (place) render(<App />, place);
