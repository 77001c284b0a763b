//! Icons as inline SVG, 24 × 24, drawn with the text's colour.

import type { ComponentChildren, JSX } from "preact";

function icon(path: ComponentChildren): () => JSX.Element {
  return () => (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">
      {path}
    </svg>
  );
}

export const BackIcon = icon(<path d="M15 5l-7 7 7 7" />);
export const SendIcon = icon(<path d="M4 12l16-8-5 16-3.500-6.500zM11.500 13.500L20 4" />);
export const ComposeIcon = icon(<path d="M12 20h8M15.500 4.500a2.100 2.100 0 0 1 3 3L8 18l-4 1 1-4z" />);
export const GroupIcon = icon(<path d="M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM2.500 20a6.500 6.500 0 0 1 13 0M16 4.300a3.500 3.500 0 0 1 0 6.400M18 14.300a6.500 6.500 0 0 1 3.500 5.700" />);
export const SearchIcon = icon(<path d="M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4" />);
export const CloseIcon = icon(<path d="M6 6l12 12M18 6L6 18" />);
export const DownIcon = icon(<path d="M6 9l6 6 6-6" />);
export const InfoIcon = icon(<path d="M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5M12 8v.010" />);
export const LeaveIcon = icon(<path d="M10 20H5V4h5M15 8l4 4-4 4M19 12H9" />);
export const WindowIcon = icon(<path d="M14 4h6v6M20 4l-8 8M18 14v6H4V6h6" />);
