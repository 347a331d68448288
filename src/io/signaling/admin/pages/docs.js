// Follows the color scheme of the system.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  // The URL of the page may contain credentials. `fetch` rejects URLs with credentials, so this URL is absolute and has none.
  url: `${location.origin}/openapi.json`,
  dom_id: "#document",
  deepLinking: true,
  displayRequestDuration: true,
  // The validator badge would send a request to another host.
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
