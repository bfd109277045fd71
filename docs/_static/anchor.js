// Formulas and pictures take their heights after the browser has scrolled to an anchor:
// follow the anchor until the reader does something.
window.addEventListener("DOMContentLoaded", () => {
  const name = decodeURIComponent(window.location.hash.slice(1));
  const target = document.getElementById(name);
  if (!target) return;
  const follower = new ResizeObserver(() => target.scrollIntoView());
  follower.observe(target.closest("article"));
  for (const event of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    window.addEventListener(event, () => follower.disconnect(), { once: true });
  }
});
