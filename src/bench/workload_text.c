/* The texts of the workloads. Sizes follow the public page of this model: 31, 65, 752 and 602 prompt tokens, 100,
 * 883, 111 and 500 tokens of answer. */
#include "bench/workload.h"

const struct workload workload_chat = {
    .name = "chat",
    .turns = {""},
    .source =
        "Explain in a few plain sentences why the sky over the sea turns red at sunset, what dust and water have to "
        "do with it, and why the colour lasts longer in the far north than at the equator.",
    .prompt_tokens = 31,
    .max_tokens = 100,
};

const struct workload workload_codegen = {
    .name = "codegen",
    .turns = {""},
    .source =
        "Write a Python class LRUCache with get and put in constant time. Use a dictionary and a doubly linked "
        "list, add type hints and a docstring for each method, and end with unit tests for eviction, for updates of "
        "a key that is there already, for a capacity of one, and for keys that compare equal but differ in type.",
    .prompt_tokens = 65,
    .max_tokens = 883,
};

const struct workload workload_rag = {
    .name = "rag",
    .system = "Answer from the passages alone and name the passages you use.",
    .turns = {"\n\nQuestion: How was the first dredging of the harbour paid for, and how long did that charge last? "
              "Answer in two or three sentences."},
    .source =
        "The harbour of Marrowby was dredged for the first time in 1871, after two grain ships had run aground on the "
        "eastern bar within a month. The work took three summers. A steam dredger hired from the neighbouring county "
        "lifted clay and gravel from a channel eleven hundred metres long, and the spoil was carried by barge to the "
        "marsh behind the rope works, where it later became the ground of the railway yard. The harbour board paid for "
        "the dredging with a toll on timber, which remained in force long after the debt had been settled and was only "
        "lifted in 1902.\n\n"
        "Tides at Marrowby are unusual for that coast. The bay is shallow and opens to the north-west, so that a "
        "strong wind from that quarter can hold the water in for several hours past the time printed in the tables. "
        "Pilots speak of a standing tide. The highest level on record, 4.82 metres above the old datum, was measured "
        "on "
        "the morning of 9 January 1938, when the lower streets were flooded up to the steps of the corn exchange. "
        "Since "
        "then the quay wall has been raised twice, by forty centimetres in 1951 and by another thirty in 1987.\n\n"
        "The rope works closed in 1926. At its height it employed two hundred and forty people, most of them women "
        "from the villages along the river, and delivered cordage to shipyards in seven countries. The long walking "
        "shed, 390 metres from end to end, survived as a store for fertiliser until a fire in 1944. A section of its "
        "brick foundation can still be seen beside the footpath, together with one of the two iron tar kettles, which "
        "the local history society restored in 1998 and put under a wooden roof.\n\n"
        "A ferry has crossed the mouth of the bay since at least 1690. The first boats were rowed and took a "
        "quarter of an hour in calm weather. A chain ferry, driven by a small engine on the southern bank, replaced "
        "them in 1889 and ran until the bridge was opened in 1963. The chain was raised in the following year, cut "
        "into lengths, and sold as scrap, except for twelve links that are built into the railing of the promenade. "
        "Passenger numbers were highest in 1955, when 412,000 people crossed, many of them on their way to the "
        "new cannery.\n\n"
        "The lighthouse on the western point was lit on 1 October 1854. Its lamp burned rape oil at first, then "
        "paraffin, and was changed to electric light in 1931. The keepers lived in two cottages at the foot of the "
        "tower and kept a weather journal that is complete but for eleven days in 1917. The journal notes wind, "
        "pressure and the state of the sea every four hours, and it has been used to reconstruct the storms of the "
        "nineteenth century. The light was automated in 1979; the cottages are let to visitors from April to October.",
    .prompt_tokens = 752,
    .max_tokens = 111,
};

const struct workload workload_agent = {
    .name = "agent",
    .system = "You work on a small web shop through tools: get_order(number), stock(article), quote_shipping(country, "
              "weight_kg), refund(number, amount). Call one tool as a line of JSON, or give the final answer.",
    .turns =
        {"Order 20817 arrived with a broken teapot and one cup missing. Can we send replacements to Lisbon, and what "
         "would it cost us?",
         "{\"tool\": \"get_order\", \"arguments\": {\"number\": 20817}}",
         "\n\nWrite the final answer now: what can be sent and when, the cost of each way, and a mail to the "
         "customer."},
    .source =
        "Result of get_order: {\"number\": 20817, \"customer\": \"Ines Kowalski\", \"date\": \"2024-03-11\", "
        "\"status\": "
        "\"shipped\", \"lines\": [{\"article\": \"teapot-celadon-1l\", \"quantity\": 1, \"unit_price\": 64.00, "
        "\"weight_kg\": 1.3}, {\"article\": \"cup-celadon\", \"quantity\": 6, \"unit_price\": 11.50, \"weight_kg\": "
        "0.2}, "
        "{\"article\": \"tray-ash-40\", \"quantity\": 1, \"unit_price\": 38.00, \"weight_kg\": 0.9}], \"total\": "
        "171.00}\n\n"
        "Result of stock: {\"teapot-celadon-1l\": {\"on_hand\": 3, \"reserved\": 2}, \"cup-celadon\": {\"on_hand\": 0, "
        "\"reserved\": 0, \"next_delivery\": \"2024-04-02\"}, \"tray-ash-40\": {\"on_hand\": 11, \"reserved\": 0}}\n\n"
        "Result of quote_shipping: [{\"carrier\": \"post\", \"price\": 14.90, \"days\": 6}, {\"carrier\": \"courier\", "
        "\"price\": 27.40, \"days\": 2}, {\"carrier\": \"parcel shop\", \"price\": 12.10, \"days\": 8}]\n\n"
        "Rules of the shop: never invent order numbers, prices or dates. Say which figures come from which tool. Ask "
        "the owner before paying back more than 50. Do not send mail before the owner has agreed to its text. If a "
        "tool "
        "reports an error, try once more with corrected arguments and then ask. Broken articles are replaced without "
        "charge within thirty days; missing ones are sent with the next delivery or paid back, as the customer wishes. "
        "Parcels above ten kilograms go by courier. Ceramics are packed in two layers, which adds 0.4 kilograms.\n\n"
        "Notes on the order: ",
    .prompt_tokens = 602,
    .max_tokens = 500,
};

const struct workload workload_depth = {
    .name = "depth",
    .turns = {"\n\nSay in one sentence what the text above is about."},
    .source = "",
    .prompt_tokens = 4096,
    .max_tokens = 32,
};
