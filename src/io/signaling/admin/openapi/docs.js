// Follows the color scheme of the system.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  // Absolute, without the credentials that the URL of the page may contain: browsers reject such URLs in fetch.
  url: `${location.origin}/openapi.json`,
  dom_id: "#document",
  deepLinking: true,
  displayRequestDuration: true,
  // The validator badge would send a request to another host.
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
