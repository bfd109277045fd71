// Formulas take their heights after the browser has scrolled to the anchor: do it again.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  const anchor = decodeURIComponent(window.location.hash.slice(1));
  document.getElementById(anchor)?.scrollIntoView();
});
