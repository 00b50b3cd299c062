/* The fixed texts of the workloads. Sizes follow the public page of this model: about 31, 65, 752 and 602 prompt tokens
 * with the LFM2 vocabulary, at most 100, 1000, 200 and 500 tokens of answer. */
#include "bench/workload.h"

const struct workload workload_chat = {
    .name = "chat",
    .turns = {"Explain in a few sentences why the sky turns red at sunset."},
    .max_tokens = 100,
};

const struct workload workload_codegen = {
    .name = "codegen",
    .turns =
        {"Write a Python class LRUCache with get and put in constant time. Use a dictionary and a doubly linked "
         "list, add type hints and a docstring for each method, and end with unit tests for eviction and updates."},
    .max_tokens = 1000,
};

const struct workload workload_rag = {
    .name = "rag",
    .system =
        "Answer the question from the passages alone. Name the number of each passage you use. If the passages do not "
        "contain the answer, say so.",
    .turns =
        {"[1] The harbour of Marrowby was dredged for the first time in 1871, after two grain ships had run aground on "
         "the "
         "eastern bar within a month. The work took three summers. A steam dredger hired from the neighbouring county "
         "lifted clay and gravel from a channel eleven hundred metres long, and the spoil was carried by barge to the "
         "marsh behind the rope works, where it later became the ground of the railway yard. The harbour board paid "
         "for "
         "the dredging with a toll on timber, which remained in force long after the debt had been settled and was "
         "only "
         "lifted in 1902.\n\n"
         "[2] Tides at Marrowby are unusual for that coast. The bay is shallow and opens to the north-west, so that a "
         "strong wind from that quarter can hold the water in for several hours past the time printed in the tables. "
         "Pilots speak of a standing tide. The highest level on record, 4.82 metres above the old datum, was measured "
         "on "
         "the morning of 9 January 1938, when the lower streets were flooded up to the steps of the corn exchange. "
         "Since "
         "then the quay wall has been raised twice, by forty centimetres in 1951 and by another thirty in 1987.\n\n"
         "[3] The rope works closed in 1926. At its height it employed two hundred and forty people, most of them "
         "women "
         "from the villages along the river, and delivered cordage to shipyards in seven countries. The long walking "
         "shed, 390 metres from end to end, survived as a store for fertiliser until a fire in 1944. A section of its "
         "brick foundation can still be seen beside the footpath, together with one of the two iron tar kettles, which "
         "the local history society restored in 1998 and put under a wooden roof.\n\n"
         "[4] A ferry has crossed the mouth of the bay since at least 1690. The first boats were rowed and took a "
         "quarter of an hour in calm weather. A chain ferry, driven by a small engine on the southern bank, replaced "
         "them in 1889 and ran until the bridge was opened in 1963. The chain was raised in the following year, cut "
         "into lengths, and sold as scrap, except for twelve links that are built into the railing of the promenade. "
         "Passenger numbers were highest in 1955, when 412,000 people crossed, many of them on their way to the "
         "new cannery.\n\n"
         "[5] The lighthouse on the western point was lit on 1 October 1854. Its lamp burned rape oil at first, then "
         "paraffin, and was changed to electric light in 1931. The keepers lived in two cottages at the foot of the "
         "tower and kept a weather journal that is complete but for eleven days in 1917. The journal notes wind, "
         "pressure and the state of the sea every four hours, and it has been used to reconstruct the storms of the "
         "nineteenth century. The light was automated in 1979; the cottages are let to visitors from April to October. "
         "A fog signal stood beside the tower until 1988 and could be heard for nine kilometres; its horn is now shown "
         "in the entrance of the museum, where it is sounded once a year, on the first Sunday in August.\n\n"
         "Question: How was the first dredging of the harbour paid for, how long did that charge last, and how far "
         "above "
         "its level before 1951 does the quay wall stand today? Answer in two or three sentences and name the "
         "passages."},
    .max_tokens = 200,
};

const struct workload workload_agent = {
    .name = "agent",
    .system =
        "You are an assistant that works on a small web shop through tools. Think about which tool brings the task "
        "forward, then either call one tool or give the final answer. A tool call is one line of JSON with the keys "
        "\"tool\" and \"arguments\", nothing else. The final answer is plain text for the shop's owner.\n\n"
        "Tools:\n"
        "- search_orders(customer: string, since: date, status: open|paid|shipped|returned) lists orders with number, "
        "date, "
        "status and total.\n"
        "- get_order(number: integer) gives the lines of one order: article, quantity, unit price, weight.\n"
        "- stock(article: string) gives the pieces on hand, the pieces reserved and the next delivery date.\n"
        "- quote_shipping(country: string, weight_kg: number, express: boolean) gives price and days for each "
        "carrier.\n"
        "- refund(number: integer, amount: number, reason: string) pays money back; ask the owner before amounts above "
        "50.\n"
        "- send_mail(to: string, subject: string, body: string) sends a message to a customer.\n\n"
        "Rules: never invent order numbers, prices or dates. Say which figures come from which tool. Do not send mail "
        "before the owner has agreed to its text. If a tool reports an error, try once more with corrected arguments "
        "and then ask.",
    .turns = {"A customer, Ines Kowalski, writes that order 20817 arrived with one broken teapot and one cup missing, "
              "and asks "
              "whether we can send replacements to her sister in Lisbon instead. Please find out what is possible and "
              "what it "
              "would cost us.",
              "{\"tool\": \"get_order\", \"arguments\": {\"number\": 20817}}",
              "Result of get_order: {\"number\": 20817, \"customer\": \"Ines Kowalski\", \"date\": \"2024-03-11\", "
              "\"status\": "
              "\"shipped\", \"lines\": [{\"article\": \"teapot-celadon-1l\", \"quantity\": 1, \"unit_price\": 64.00, "
              "\"weight_kg\": 1.3}, {\"article\": \"cup-celadon\", \"quantity\": 6, \"unit_price\": 11.50, "
              "\"weight_kg\": 0.2}, "
              "{\"article\": \"tray-ash-40\", \"quantity\": 1, \"unit_price\": 38.00, \"weight_kg\": 0.9}], \"total\": "
              "171.00}\n\n"
              "Result of stock: {\"teapot-celadon-1l\": {\"on_hand\": 3, \"reserved\": 2}, \"cup-celadon\": "
              "{\"on_hand\": 0, "
              "\"reserved\": 0, \"next_delivery\": \"2024-04-02\"}}\n\n"
              "Result of quote_shipping: [{\"carrier\": \"post\", \"price\": 14.90, \"days\": 6}, {\"carrier\": "
              "\"courier\", "
              "\"price\": 27.40, \"days\": 2}]\n\n"
              "Write the final answer now: sum up what can be sent and when, compare sending everything together with "
              "sending "
              "two parcels, state the cost of each way with the figures used, recommend one, and draft the mail to the "
              "customer."},
    .max_tokens = 500,
};
