// The page works without this file. With it, the last line says what the browser has loaded, and `/?autosubmit` fills the
// form in and sends it: tests/browser.rs reads both.
"use strict";

addEventListener("load", () => {
  const image = document.querySelector("header img");
  const style = getComputedStyle(document.documentElement).getPropertyValue("--stylesheet").trim();
  const loaded = document.getElementById("loaded");
  loaded.dataset.imageWidth = image.naturalWidth;
  loaded.dataset.stylesheet = style;
  loaded.textContent = `Loaded: the stylesheet (${style}), the image (${image.naturalWidth} pixels wide) and this script.`;

  if (new URLSearchParams(location.search).has("autosubmit")) {
    const form = document.querySelector("form");
    form.elements.name.value = "Ada";
    form.elements.message.value = "Sent by <script> & answered by CGI: 100 % µ";
    form.submit();
  }
});
